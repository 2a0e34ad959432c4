"""Who gets the test images wrong: both edits, one of them or neither, a bar per group of images."""

from __future__ import annotations

import plotly.graph_objects as go

from dashboard.charts import room
from dashboard.charts.kept import kept
from dashboard.charts.style import Palette, finish


@kept
def both_wrong(
    groups: dict[str, dict[str, int]],
    names: dict[str, str],
    colours: tuple[str, str],
    title: str,
    palette: Palette,
) -> go.Figure:
    """Draw shares of the images of each group, in the order of `names`.

    Args:
        groups: heading -> images by outcome ("right", "first", "second", "wrong").
        names: outcome -> its words in the key.
        colours: of images that only the first, only the second gets wrong.
    """
    looks = {
        "right": (palette.unselected, ""),
        "first": (colours[0], "/"),
        "second": (colours[1], "\\"),
        "wrong": (palette.ink, ""),
    }
    figure = go.Figure()
    headings = [f"{heading} ({sum(counts.values()):,})" for heading, counts in groups.items()]
    for outcome, name in names.items():
        colour, pattern = looks[outcome]
        counts = [found[outcome] for found in groups.values()]
        shares = [
            100 * count / max(sum(found.values()), 1)
            for count, found in zip(counts, groups.values(), strict=True)
        ]
        figure.add_bar(
            x=shares,
            y=headings,
            orientation="h",
            name=name,
            customdata=counts,
            text=[
                f"{count:,}" if share > 4 else ""
                for count, share in zip(counts, shares, strict=True)
            ],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            marker={"color": colour, "pattern": {"shape": pattern, "size": 6}},
            hovertemplate=f"%{{y}}: {name}, %{{customdata:,}} images (%{{x:.1f}} %)<extra></extra>",
        )
    figure.update_layout(barmode="stack", bargap=0.3, legend_traceorder="normal")
    figure.update_xaxes(title="test images (%)", range=[0, 100])
    figure.update_yaxes(autorange="reversed", showgrid=False)
    finish(figure, title, height=110 + 46 * len(groups), top=50, legend=1.06)
    return room.fixed(figure, headings)
