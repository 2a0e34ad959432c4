"""What `show` prints of a record: the verdict, accuracies before and after, certificates."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gifcore import fastif_words, mislabel_words, preview, verdict
from gifcore.outcome import Outcome, outcome
from gifcore.record import Record

WIDEST = 100  # columns of the table


def show(record: Record) -> None:
    """Print the study, the verdict on each method, the numbers behind it, how it was measured."""
    info = record.info
    console = Console()
    chosen, judged = info["selection"], outcome(info["change"])
    console.print(
        f"{escape(info['title'])}: {info['model']['name']} on {escape(info['data']['name'])}, "
        f"{escape(judged.what)}, "
        f"{chosen['selector']} {100 * chosen['ratio']:g} % = {chosen['k']:,} of "
        f"{chosen['p']:,} parameters, seed {info['seed']}, {info['seconds']:.0f} s, "
        f"{info['peak_memory_mb']:.0f} MB",
        highlight=False,
        soft_wrap=True,
    )
    for one in verdict.verdicts(info):
        console.print(f"- {escape(one.text)}", highlight=False, soft_wrap=True)
    for line in verdict.rules(info):
        console.print(escape(line), highlight=False, soft_wrap=True)
    keys = [figure.key for figure in judged.figures if figure.short != "All"]
    if judged.task == "samples":
        keys.insert(1, "reached")
    names = [f"{key.removesuffix('_accuracy')} %" for key in keys]
    table = Table("method", "step", "scale", *names, "F1", "certificate")
    before = info["before"]["test"]
    table.add_row("before", "", "", *_accuracies(before, keys), "")
    for method in info["methods"].values():
        certificate = method.get("certificate")
        words = _words(certificate, method, info) if certificate else ""
        for step, entry in method.get("steps", {}).items():
            table.add_row(
                method["label"],
                step,
                f"{entry['scale']:.3g}",
                *_accuracies(entry["test"], keys),
                words,
            )
            words = ""
    console.print(table, width=min(console.width, WIDEST))
    console.print(
        f"{escape(_legend(judged, before))} {escape(_ranked(info['queries']))}",
        highlight=False,
        soft_wrap=True,
    )
    for line in (
        *_explained(record),
        *_on_themselves(info),
        *fastif_words.lines(record),
        *preview.words(info),
    ):
        console.print(escape(line), highlight=False, soft_wrap=True)
    if record.mislabel:
        _wrong_labels(console, record.mislabel)


def _wrong_labels(console: Console, found: dict[str, Any]) -> None:
    """Print how well each score finds the wrong labels, where they are known."""
    known = mislabel_words.rows(found)
    if known:
        table = Table(*mislabel_words.HEADINGS)
        for row in known:
            table.add_row(*row)
        console.print(table, width=min(console.width, WIDEST))
    for line in (mislabel_words.labels_of(found), mislabel_words.contradicted(found)):
        console.print(f"{escape(line)}.", highlight=False, soft_wrap=True)


def _ranked(queries: list[dict[str, Any]]) -> str:
    """Return how many test images were ranked, and the groups by name and size."""
    groups = [query["group"] for query in queries if query.get("group")]
    words = f"{len(queries) - len(groups)} test images ranked"
    if not groups:
        return f"{words}."
    names = ", ".join(f"{group['name']} ({group['size']:,} images)" for group in groups)
    return f"{words}, and {len(groups)} groups: {names}."


def _explained(record: Record) -> list[str]:
    """Return what the rankings are of, if it is not the loss."""
    target = record.target
    if target["name"] == "loss" or not record.queries:
        return []
    moves = "lowers" if target["better_high"] else "raises"
    return [
        f"Rankings explain the {target['name']} ({target['unit']}), not the loss; positive = "
        f"helpful: the removal {moves} it."
    ]


def _on_themselves(info: dict[str, Any]) -> list[str]:
    """Return how the self-influence of the training samples was taken, a line a method."""
    lines = []
    for method in info["methods"].values():
        found = method.get("self_influence")
        if found:
            off = found.get("median_relative_error")
            checked = f"; {found['checked']} checked, median {off:.2g} off" if off else ""
            lines.append(f"Self-influence by {method['label']}: {found['words']}{checked}.")
    return lines


def _legend(judged: Outcome, before: dict[str, Any]) -> str:
    """Return what the columns of `show` are."""
    if judged.task == "class":
        return (
            f"Test split: self = accuracy on {before['self_n']} images of the removed class "
            f"(want 0), retain = on {before['retain_n']} others."
        )
    counted = ", ".join(
        f"{figure.key.removesuffix('_accuracy')} over {figure.count(before):,} {figure.images}"
        for figure in judged.figures
    )
    return f"Test split: {counted}. {judged.reading} F1 of {judged.score}."


def _accuracies(entry: dict[str, Any], keys: list[str]) -> list[str]:
    return [*(f"{entry[key]:.1%}" for key in keys), f"{entry['score']:.4f}"]


def _words(certificate: dict[str, Any], method: dict[str, Any], info: dict[str, Any]) -> str:
    """Return the certificate of an update, and how stable the rankings are: a fact a line.

    Keys that older records lack are left out.
    """
    lines = [str(certificate["status"]), *_solve_words(certificate)]
    if certificate.get("solver_damping") is not None:
        lines.append(f"effective damping {certificate['solver_damping']:.3g}")
    if certificate["negative_curvature"]:
        lines.append("negative curvature")
    lines += _stability_words(method, info)
    lines += _spread_words(method.get("spread"))
    lines += [f"auto: {reason}" for reason in certificate.get("auto") or ()]
    lines += [f"note: {note}" for note in certificate.get("notes") or ()]
    return escape("\n".join(lines))


def _solve_words(certificate: dict[str, Any]) -> list[str]:
    solver, judged = certificate["solver"], certificate["judged_by"]
    if solver == "none":
        return []
    if certificate["status"] == "no system":
        return [str(solver)]
    spent = certificate["hvps"] + certificate["check_hvps"]
    return [
        f"{solver}, {certificate['iterations']} it, {spent} products",
        f"{judged.replace('_', ' ')} {certificate[judged]:.2g}",
    ]


def _stability_words(method: dict[str, Any], info: dict[str, Any]) -> list[str]:
    """Return how many of the top 50 were there at half the budget, over all ranked images."""
    found = [c.get("rank_stability") for c in method.get("query_certificates", {}).values()]
    shares = [share for share in found if share is not None]
    if not shares:
        return []
    top = min(50, info["data"]["sizes"]["train"])
    low, high = round(min(shares) * top), round(max(shares) * top)
    there = str(low) if low == high else f"{low} to {high}"
    return [f"top {top}: {there} at half budget"]


def _spread_words(spread: dict[str, Any] | None) -> list[str]:
    """Return how far the updates of several draws of the curvature samples agree."""
    if not spread or spread["mean_cosine"] is None:
        return []
    return [
        f"{spread['draws']} draws: mean cosine {spread['mean_cosine']:.3f}, "
        f"norms ± {100 * spread['norm_deviation']:.2g} %"
    ]
