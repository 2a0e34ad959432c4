"""Parts of the report that the pages draw with widgets: here they stand still.

What a record says is escaped; sentences in Markdown are turned into the little HTML they need.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import cache, doubts
from dashboard.charts.same_predictions import same_predictions
from dashboard.charts.step_search import step_search
from dashboard.charts.style import Palette, label
from dashboard.components import gallery, held, measures, pixels, sure, weights
from dashboard.components.gallery import Pictures
from dashboard.state import Context
from gifcore.held_against import recipe_words, truth
from gifcore.outcome import outcome
from gifcore.record import BEFORE, SEARCHED

ENDS = 10  # training images of each end of a ranking in its table
CLASSES = 20  # beyond, a confusion matrix is no table that anybody reads
_PLAIN_WORDS = re.compile(r"\\(?P<kept>.)|\*\*(?P<b>.+?)\*\*|\*(?P<i>.+?)\*|`(?P<code>.+?)`")

Draw = Callable[[go.Figure], str]  # a figure as HTML


def marked(text: str) -> str:
    r"""Return a sentence in Markdown as HTML: bold, italics, code, and what a backslash kept.

    >>> marked(r"**At most** 3 < 4 in `a_b`, \*really\*")
    '<b>At most</b> 3 &lt; 4 in <code>a_b</code>, *really*'
    """
    found, end = [], 0
    for match in _PLAIN_WORDS.finditer(text):
        found.append(html.escape(text[end : match.start()]))
        end, name = match.end(), match.lastgroup or "kept"
        inner = match.group(name)
        if name == "kept":
            found.append(html.escape(inner))
        else:
            inside = html.escape(inner) if name == "code" else marked(inner)
            found.append(f"<{name}>{inside}</{name}>")
    return "".join([*found, html.escape(text[end:])])


def table(frame: pd.DataFrame) -> str:
    """Return a table as HTML, every text in it escaped."""
    return str(frame.to_html(index=False, border=0, escape=True))


# --- the edits ------------------------------------------------------------------------------------


def retrained(context: Context, methods: Sequence[str], draw: Draw, palette: Palette) -> str:
    """Return how the edits agree with retrained models; "" without any."""
    found = truth(context.info)
    panels = {} if found is None else held.panels(context.info, methods, found)
    if found is None or not panels:
        return ""
    title = held.agreement_title(context.info, methods, found)
    note = f"{held.counted(found)}: {recipe_words(found.entry)}. {held.NOT_MEASURED}"
    figure = draw(same_predictions(panels, title, palette))
    return f'{figure}<p class="quiet">{html.escape(note[:1].upper() + note[1:])}</p>'


def steps(context: Context, methods: Sequence[str], draw: Draw, palette: Palette) -> Iterator[str]:
    """Yield how each method's step was chosen on the validation split."""
    judged = outcome(context.info["change"])
    for method in methods:
        curves = cache.curves(context.shown.path, method)
        curves = curves[curves["curve"].isin([curve for curve, _ in judged.curves])]
        chosen = context.info["methods"][method]["steps"].get(SEARCHED)
        if curves.empty or chosen is None:
            continue
        scale = chosen["scale"]
        title = f"{label(method)}: the step is chosen on validation at {measures.times(scale)}"
        yield draw(step_search(curves, method, scale, title, palette, judged.curves))


def confusion(context: Context, methods: Sequence[str]) -> Iterator[str]:
    """Yield the predictions of the test images, before and after each method's longest step."""
    classes, path = context.info["data"]["classes"], context.shown.path
    models = [("Before the edit", BEFORE, "")]
    for method in methods:
        step = list(context.info["methods"][method]["steps"])[-1]
        models.append((f"After {label(method)}’s {step} step", method, step))
    for name, method, step in models:
        rows = cache.samples(path, method, step)
        if rows.empty or len(classes) > CLASSES:
            continue
        counts = measures.confusion(
            rows["label"].to_numpy(), rows["predicted"].to_numpy(), len(classes)
        )
        frame = pd.DataFrame(counts, columns=classes)
        frame.insert(0, "label \\ predicted", classes)
        yield f"<details><summary>{html.escape(name)}: test images by label and prediction"
        yield f"</summary>{table(frame)}</details>"


# --- the rankings ---------------------------------------------------------------------------------


def ends(method: str, frame: pd.DataFrame, source: Pictures, unit: str) -> str:
    """Return both ends of a ranking as a table: place, number, label, influence.

    Args:
        frame: train_index, influence and rank, in order of rank.
    """
    both = [frame.head(ENDS), frame.iloc[max(ENDS, len(frame) - ENDS) :]]
    found = pd.concat(both, ignore_index=True)
    shown = pd.DataFrame({"place": found["rank"] + 1, "training image": found["train_index"]})
    shown["label"] = [source.label("train", int(i)) for i in found["train_index"]]
    shown[f"influence ({unit})"] = [f"{value:+.3g}" for value in found["influence"]]
    summary = f"First and last {ENDS} of {len(frame):,} by {label(method)}, most helpful first"
    return f"<details><summary>{html.escape(summary)}</summary>{table(shown)}</details>"


# --- the parameters -------------------------------------------------------------------------------


def layer(context: Context, methods: Sequence[str], palette: Palette) -> str:
    """Return the layer that is picked, or moves most, as a picture for each method."""
    layers = context.info["model"]["layers"]
    moves = {m: cache.update(context.shown.path, m) for m in methods}
    tables = {m: weights.layer_table(layers, *move) for m, move in moves.items()}
    last = tables[methods[-1]]
    most = str(last["layer"][int(last["norm"].to_numpy().argmax())])
    named = {one["name"]: one for one in layers}
    asked = getattr(context, "layer", None)
    own = named[asked if asked in named else most]
    cut = {
        m: weights.blocks(weights.as_matrix(weights.layer_values(own, *move)))
        for m, move in moves.items()
    }
    limit = weights.limit([one.values for one in cut.values()])
    parts = [f"<h3>{html.escape(own['name'])}: units down, inputs across</h3>", '<div class="row">']
    for method, one in cut.items():
        png = pixels.png(one.values, limit, palette)
        moved = float(np.sqrt(np.nansum(weights.layer_values(own, *moves[method]) ** 2)))
        words = f"{label(method)}: ‖Δ‖ = {measures.significant(moved)}"
        said = f"Moves of {own['name']} by {words}"
        parts.append(
            f'<figure class="layer"><img src="{gallery.data_uri(png)}" '
            f'alt="{html.escape(said)}">'
            f"<figcaption>{html.escape(words)}</figcaption></figure>"
        )
    any_cut = next(iter(cut.values()))
    cell = f"{any_cut.rows} × {any_cut.columns} weights, the furthest moved of them"
    note = (
        f"Blue: increased, orange: decreased, grey: not selected. Colours end at "
        f"± {measures.significant(limit)} parameter units; a cell is {cell}."
    )
    return "".join([*parts, f'</div><p class="quiet">{html.escape(note)}</p>'])


# --- how sure -------------------------------------------------------------------------------------

FIGURES = {
    "before-after": "The accuracies",
    "parameters": "The parameters",
    "samples": "The training images",
}


def sure_of(context: Context, edited: Sequence[str]) -> Iterator[str]:
    """Yield for each group of figures what was checked and what would make it wrong."""
    for figure, name in FIGURES.items():
        ranking = figure == "samples"
        methods = list(context.methods if ranking else edited)
        if not methods or (ranking and context.query is None):
            continue
        facts = sure.facts_of(context, figure, context.query if ranking else None, methods)
        lines = [sure.check(context, figure, methods)]
        lines += sure.known(context, figure, methods, facts.top)
        lines += doubts.of(facts, figure)
        items = "".join(f"<li>{marked(line)}</li>" for line in lines)
        yield f"<h3>{name}: what was checked, what would make it wrong</h3><ul>{items}</ul>"
