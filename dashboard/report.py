"""A study as one HTML file: opens without a network, its charts stay interactive.

    python -m dashboard.report FOLDER [--out FILE]

The charts and tables are those of the pages; whatever a record says is escaped.
"""

from __future__ import annotations

import argparse
import html
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dashboard import cache, report_parts, reproduce, settings, state
from dashboard.charts.accuracies import accuracies
from dashboard.charts.network import network
from dashboard.charts.score_scatter import score_scatter, thin
from dashboard.charts.style import Palette, heading, label
from dashboard.components import certificate, gallery, measures, weights
from dashboard.components.gallery import Pictures
from dashboard.components.messages import coded
from dashboard.library import FAMILY_DIGITS, Family
from dashboard.state import Context
from dashboard.views import before_after, compare_scores
from gifcore.errors import GifError
from gifcore.held_against import truth
from gifcore.outcome import outcome
from gifcore.record import Record
from gifcore.verdict import rules, verdicts

SHOWN = 8  # images of each side
SIDE = 84  # px of one
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff; max-width: 1060px;
  margin: 2rem auto; padding: 0 1rem }
h1 { margin-bottom: .2rem } h2 { margin-top: 2.4rem }
.quiet { color: #5b6470; font-size: .9rem }
table { border-collapse: collapse; margin: 1rem 0; font-size: .9rem }
th, td { border-bottom: 1px solid #d3d6db; padding: .3rem .7rem; text-align: left }
.row { display: flex; flex-wrap: wrap; gap: .6rem }
figure { margin: 0; width: 110px; text-align: center }
figcaption { font-size: .8rem }
figure img { image-rendering: pixelated; border-radius: 6px }
pre { background: #f4f5f7; padding: .8rem; overflow-x: auto; font-size: .85rem }
figure.layer { width: auto } figure.layer img { min-width: 220px; max-width: 100% }
.helpful { color: #1f6fc5 } .harmful { color: #c65a11 }
"""


def report(context: Context) -> str:
    """Return the whole report of what is looked at, as HTML."""
    info = context.info
    parts = [_head(context), _verdict(info, context.methods)]
    figures = _Figures()
    edited = [m for m in context.methods if info["methods"][m].get("steps")]
    if edited:
        parts += list(_accuracies(info, edited, figures))
        parts.append(report_parts.retrained(context, edited, figures.html, figures.palette))
        parts += list(report_parts.steps(context, edited, figures.html, figures.palette))
        parts += list(report_parts.confusion(context, edited))
    if context.query is not None:
        parts += list(_samples(context, figures))
    if edited:
        parts.append(_parameters(context, edited, figures))
        parts.append(report_parts.layer(context, edited, figures.palette))
    parts += [*_certificates(context), *report_parts.sure_of(context, edited)]
    parts.append(_reproduce(context))
    title = html.escape(context.title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


class _Figures:
    """Turns figures into HTML; the first brings the library with it."""

    def __init__(self) -> None:
        self.drawn = 0
        self.palette = Palette()

    def html(self, figure: go.Figure) -> str:
        figure = go.Figure(figure)  # those of the pages are shared
        finding = html.escape(heading(figure))
        figure = go.Figure(figure)  # the pages draw the same ones
        figure.update_layout(font={"family": "system-ui, sans-serif"}, margin={"b": 30})
        figure.update_xaxes(automargin=True)
        figure.update_yaxes(automargin=True)
        drawn = figure.to_html(
            full_html=False,
            include_plotlyjs=self.drawn == 0,
            div_id=f"figure-{self.drawn}",
            config={"displaylogo": False, "responsive": True},
        )
        self.drawn += 1
        return f'<h3>{finding}</h3><div role="img" aria-label="{finding}">{drawn}</div>'


# --- its parts ------------------------------------------------------------------------------------


def _head(context: Context) -> str:
    info, chosen = context.info, context.info["selection"]
    judged = outcome(info["change"])
    facts = [
        f"Change: {judged.what}",
        f"model {info['model']['name']}, {chosen['p']:,} parameters",
        f"data {info['data']['name']}",
        f"selector {state.selector_label(chosen['selector'])} at {100 * chosen['ratio']:g} % "
        f"({chosen['k']:,} parameters)",
        f"computed {info['created'][:10]} in {measures.seconds(info['seconds'])}",
    ]
    return (
        f"<h1>{html.escape(context.title)}</h1>"
        f'<p class="quiet">{html.escape("; ".join(facts))}.<br>Record '
        f"{html.escape(info['hash'][:16])}, engine {html.escape(info['engine'])}.</p>"
    )


def _verdict(info: dict[str, Any], methods: list[str]) -> str:
    lines = []
    for one in verdicts(info, methods):
        does = "; ".join(
            clause.words + (f" ({clause.numbers})" if clause.numbers else "") for clause in one.does
        )
        evidence = " ".join(f"{part[:1].upper()}{part[1:]}." for part in one.parts)
        lines.append(
            f"<p><b>{html.escape(one.name)}</b>, {html.escape(one.edit)}: {html.escape(does)}<br>"
            f'<span class="quiet">{html.escape(evidence)}</span></p>'
        )
    said = [report_parts.marked(coded(rule)) for rule in rules(info)]
    notes = "".join(f'<p class="quiet">{rule}</p>' for rule in said)
    return "<h2>The verdict</h2>" + "".join(lines) + notes


def _accuracies(info: dict[str, Any], methods: list[str], figures: _Figures) -> Iterator[str]:
    judged, retrained = outcome(info["change"]), truth(info)
    models = before_after.evaluated(info, methods)
    groups = {
        figure.panel: before_after.dots(models, figure)
        + before_after.retrained_dots(retrained, figure)
        for figure in judged.figures
    }
    title = before_after.accuracies_title(info, methods)
    yield "<h2>Before and after</h2>"
    yield figures.html(accuracies(groups, title, figures.palette))
    rows = [
        before_after.table(models, judged),
        before_after.retrained_rows(retrained, judged),
    ]
    yield report_parts.table(pd.concat(rows, ignore_index=True).fillna(""))
    yield f'<p class="quiet">{html.escape(judged.reading)} Test split, reported once; the searched '
    yield "step was chosen on the validation split. Bars are 95 % Wilson intervals.</p>"


def _samples(context: Context, figures: _Figures) -> Iterator[str]:
    path, query = context.shown.path, context.query
    assert query is not None
    asked = next((q for q in cache.queries(context.shown) if q["index"] == query), None)
    ranked = [m for m in context.methods if asked and m in asked["certificates"]]
    if asked is None or not ranked:
        return
    source, words = gallery.pictures(context), measures.explained(context.info)
    yield "<h2>The training images behind one prediction</h2>"
    yield f"<p>{_image(source.query_png(asked, SIDE), _name(asked, source))}</p>"
    yield (
        f'<p class="quiet">Score: predicted change of its {html.escape(words.noun)} if the '
        f"training image is removed and the model refitted, in {html.escape(words.unit)}. "
        f'<b class="helpful">+ helpful</b>: removing it would {words.worse} it; '
        f'<b class="harmful">− harmful</b>: removing it would {words.better} it.</p>'
    )
    scores = {m: cache.scores(path, m, query) for m in ranked}
    for method, frame in scores.items():
        sides = {"helpful": frame.head(SHOWN), "harmful": frame.iloc[: -SHOWN - 1 : -1]}
        for side, rows in sides.items():
            sign = "+" if side == "helpful" else "−"
            yield f'<h3 class="{side}">{sign} Most {side}, by {html.escape(label(method))}</h3>'
            yield _gallery(rows, source)
        yield report_parts.ends(method, frame, source, words.unit)
    if len(ranked) > 1:
        yield _scatter(context, ranked[:2], figures)


def _gallery(rows: pd.DataFrame, source: Pictures) -> str:
    tiles = []
    for index, score in zip(rows["train_index"], rows["influence"], strict=True):
        words = f"{source.label('train', int(index))} #{index}: {score:+.2e}".strip()
        tiles.append(_image(source.png("train", int(index), SIDE), words))
    return f'<div class="row">{"".join(tiles)}</div>'


def _scatter(context: Context, methods: list[str], figures: _Figures) -> str:
    assert context.query is not None
    first, second = (cache.influence(context.shown.path, m, context.query) for m in methods)
    exp = max(measures.exponent(values) for values in (first, second))
    unit = measures.power(exp, measures.explained(context.info).unit)
    names = (label(methods[0]), label(methods[1]))
    own, name = compare_scores.marked(context, len(first))
    dots = thin(first, second)
    figure = score_scatter(
        first / 10.0**exp,
        second / 10.0**exp,
        marked=own,
        marked_name=name,
        texts=compare_scores.texts(context, dots),
        names=names,
        units=(unit, unit),
        title=compare_scores.scatter_title(first, second, names),
        palette=figures.palette,
    )
    words = html.escape(compare_scores.scatter_words(len(dots), len(first)))
    return f'{figures.html(figure)}<p class="quiet">{words}</p>'


def _parameters(context: Context, methods: list[str], figures: _Figures) -> str:
    layers = context.info["model"]["layers"]
    tables = {}
    for method in methods:
        table = weights.layer_table(layers, *cache.update(context.shown.path, method))
        tables[method] = weights.module_table(layers, table)
    parts = [
        f"{label(m)} moves {int(t['selected'].sum()):,} of {int(t['size'].sum()):,} numbers"
        for m, t in tables.items()
    ]
    figure = network(tables, ", ".join(parts), figures.palette)
    note = "Area: cube root of the number of parameters; at scale 1, the natural step."
    return f'<h2>The parameters that move</h2>{figures.html(figure)}<p class="quiet">{note}</p>'


def _certificates(context: Context) -> Iterator[str]:
    entries = context.info["methods"]
    found = {m: entries[m]["certificate"] for m in context.methods if "certificate" in entries[m]}
    if not found:
        return
    yield "<h2>How sure is this?</h2>"
    for method, entry in found.items():
        yield f"<p>{report_parts.marked(certificate.sentence(method, entry))}</p>"
    details = certificate.table(found, cache.study(context.shown.path))
    yield report_parts.table(details.reset_index(names=""))


def _reproduce(context: Context) -> str:
    lines = reproduce.of(context)
    return (
        "<h2>Compute it again</h2>"
        f"<p>Save this as <code>study.toml</code>:</p><pre>{html.escape(lines.study)}</pre>"
        f"<p>In a terminal:</p><pre>{html.escape(lines.command)}</pre>"
        f"<p>In Python:</p><pre>{html.escape(lines.python)}</pre>"
    )


# --- small pieces ---------------------------------------------------------------------------------


def _image(png: bytes, words: str) -> str:
    text = html.escape(words)
    return (
        f'<figure><img src="{gallery.data_uri(png)}" alt="{text}" width="{SIDE}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _name(query: dict[str, Any], source: Pictures) -> str:
    if query.get("group"):
        return str(query["group"]["name"])
    true, said = (source.classes[query[key]] for key in ("label", "predicted"))
    return f"Test image {query['index']}: {true}, taken for {said}"


# --- on the command line --------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Write the report of a record; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dashboard.report", description=__doc__)
    parser.add_argument("folder", type=Path, help="a record, such as runs/forget")
    parser.add_argument("--out", type=Path, help="the file [FOLDER.html]")
    asked = parser.parse_args(arguments)
    out = asked.out or Path(f"{asked.folder.resolve().name}.html")
    try:
        record = Record.open(asked.folder)
        out.write_text(report(context_of(record)), encoding="utf-8")
    except GifError as problem:
        print(problem, file=sys.stderr)
        return 1
    except OSError as problem:
        print(f"Cannot write {out}: {problem.strerror}.", file=sys.stderr)
        return 1
    print(out)
    return 0


def context_of(record: Record) -> Context:
    """Return a record as the pages would first show it."""
    chosen = record.info["selection"]
    combination = (chosen["selector"], chosen["ratio"])
    family = Family(record.info["family"][:FAMILY_DIGITS], record.title, demo=False)
    family.paths[combination] = record.path
    return replace(state.of(family, combination), workspace=settings.workspace())


if __name__ == "__main__":
    sys.exit(main())
