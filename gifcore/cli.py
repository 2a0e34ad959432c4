"""The command line: train, run, list, show, doctor. Torch is imported only where it computes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from gifcore.errors import Cancelled, GifError

# Idle OpenMP threads spin for a moment only, then sleep: two processes on one machine do not starve
# each other, and many short loops still start at once. Read when torch is imported: set before.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="GIF Studio: influence, edits, records."
)
WORKSPACE = Path("runs")
WIDEST = 100  # columns of the table of `show`
Workspace = Annotated[Path, typer.Option(help="Folder of all studies.")]
err = Console(stderr=True)


@contextmanager
def _sentences() -> Iterator[None]:
    """Turn an expected error into one sentence and an exit code: 1, or 130 for a cancel."""
    try:
        yield
    except Cancelled as error:
        err.print(f"[yellow]{escape(str(error))}[/yellow]", highlight=False)
        raise typer.Exit(130) from None
    except GifError as error:
        err.print(f"[red]Error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="A study in TOML.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the record.")] = None,
    workspace: Workspace = WORKSPACE,
    reuse: Annotated[
        Path | None, typer.Option(help="A record whose equal methods are taken, not computed.")
    ] = None,
) -> None:
    """Run a study and write its record. The same study again returns at once."""
    from gifcore import runner
    from gifcore import study as studies

    with _sentences():
        prepared = runner.prepare(studies.read(study))
        folder = out or runner.default_folder(prepared, workspace)
        known = runner.finished(folder, prepared, workspace)
        if known is not None:
            where = "" if known.path == folder else f" (linked from {known.path})"
            print(f"Already computed: {folder}{where}, finished {known.info['created']}.")
            return
        with _bars() as listen:
            record = runner.run(prepared, folder, workspace=workspace, reuse=reuse, listen=listen)
        _show(record)
        print(f"Record: {folder}")


@contextmanager
def _bars() -> Iterator[Any]:
    """Draw the stages of run.json as progress bars."""
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=err, transient=not err.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def listen(state: dict[str, Any]) -> None:
            left = state["eta_seconds"]
            for stage in state["stages"]:
                if stage["state"] == "todo":
                    continue
                if stage["name"] not in tasks:
                    tasks[stage["name"]] = progress.add_task(stage["name"], note="", total=1)
                note = stage["note"]
                if stage["state"] == "running" and left is not None:
                    note += f" · about {left:.0f} s left in all"
                share = stage["done"] / stage["total"] if stage["total"] else 1.0
                progress.update(tasks[stage["name"]], completed=share, note=note)
            if state["status"] == "waiting" and "wait" not in tasks and state["message"]:
                tasks["wait"] = progress.add_task("waiting", note=state["message"], total=None)
            if state["status"] == "running" and "wait" in tasks:
                progress.remove_task(tasks.pop("wait"))

        yield listen


@app.command("list")
def list_studies(workspace: Workspace = WORKSPACE) -> None:
    """List the studies of a workspace."""
    from gifcore.record import list_workspace

    table = Table("folder", "status", "title", "selector", "ratio", "note")
    for entry in list_workspace(workspace):
        chosen = entry.info.get("selection", {})
        ratio = f"{100 * chosen['ratio']:g} %" if "ratio" in chosen else ""
        table.add_row(
            escape(entry.path.name),
            entry.status,
            escape(entry.title),
            chosen.get("selector", ""),
            ratio,
            escape(entry.message),
        )
    if table.row_count:
        Console().print(table)
    else:
        print(f"No study in {workspace} yet; `python -m gifcore run STUDY.toml` makes one.")


@app.command()
def show(folder: Annotated[Path, typer.Argument(help="Folder of a record.")]) -> None:
    """Show a record: accuracy before and after, and the certificate of every update."""
    from gifcore.record import Record, foreign
    from gifcore.run_state import read_state

    with _sentences():
        state = read_state(folder)
        if state is not None and state["status"] != "finished":
            raise GifError(f"{folder} holds no result: {state['status']}. {state['message']}")
        record = Record.open(folder)
        try:
            _show(record)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise foreign(folder, error) from None


def _show(record: Any) -> None:
    from gifcore import fastif_words, preview
    from gifcore.outcome import outcome

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
    for line in (*_on_themselves(info), *fastif_words.lines(record), *preview.words(info)):
        console.print(escape(line), highlight=False, soft_wrap=True)


def _ranked(queries: list[dict[str, Any]]) -> str:
    """Return how many test images were ranked, and the groups by name and size."""
    groups = [query["group"] for query in queries if query.get("group")]
    words = f"{len(queries) - len(groups)} test images ranked"
    if not groups:
        return f"{words}."
    names = ", ".join(f"{group['name']} ({group['size']:,} images)" for group in groups)
    return f"{words}, and {len(groups)} groups: {names}."


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


def _legend(judged: Any, before: dict[str, Any]) -> str:
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


@app.command()
def train(
    data: Annotated[str, typer.Option(help="Data set name, or path of an .npz file.")],
    model: Annotated[str, typer.Option(help="Architecture, a name of the model registry.")],
    out: Annotated[Path | None, typer.Option(help="The .safetensors file to write.")] = None,
    seed: int = 0,
    epochs: int = 30,
    batch_size: int = 128,
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    patience: int = 8,
    checkpoints: Annotated[int, typer.Option(help="How many to keep, for tracin.")] = 0,
    backdoor: Annotated[
        str | None,
        typer.Option(help="Poison the training images first: label=4,count=100,size=3,…"),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(help="Give a share of the training images wrong labels: rate=0.1,seed=0"),
    ] = None,
) -> None:
    """Train a model of the registry: deterministic for a seed, stopped early on validation."""
    with _sentences():
        from gifcore import data as datasets
        from gifcore import training
        from gifcore.study import read_backdoor, read_noise

        planted = None if backdoor is None else read_backdoor(backdoor)
        wrong = None if noise is None else read_noise(noise)
        loaded = datasets.load(data)
        name = f"{model}-{loaded.name}" + ("-backdoor" if planted else "")
        name += "-noise" if wrong else ""
        path = out or WORKSPACE / "models" / f"{name}.safetensors"
        columns = (
            BarColumn(30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        with Progress(*columns, console=err) as progress:
            task = progress.add_task("starting", total=1)

            def report(done: int, total: int, note: str) -> None:
                progress.update(task, completed=done, total=total, description=note)

            result = training.train(
                loaded,
                model,
                seed=seed,
                epochs=epochs,
                batch_size=batch_size,
                lr=lr,
                momentum=momentum,
                weight_decay=weight_decay,
                patience=patience,
                checkpoints=checkpoints,
                backdoor=planted,
                noise=wrong,
                out=path,
                progress=report,
            )
        accuracy = ", ".join(f"{split} {value:.2%}" for split, value in result.accuracy.items())
        print(f"{result.checkpoint}: accuracy {accuracy}; {result.seconds:.0f} s.")


@app.command()
def doctor(
    study: Annotated[
        Path | None, typer.Argument(help="A study in TOML; none: this machine.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say whether a study can run: shapes, classes, this model's accuracy, time and memory."""
    from gifcore import checkup

    try:
        answer = checkup.machine() if study is None else checkup.of_file(study)
    except GifError as error:
        answer = {"ok": False, "error": str(error)}
    if as_json:
        print(json.dumps(answer))
    elif not answer["ok"]:
        err.print(f"[red]Error:[/red] {escape(answer['error'])}", highlight=False, soft_wrap=True)
    else:
        for key, value in (answer if study is None else _in_words(answer)).items():
            if key != "ok":
                print(f"{key}: {value}")
    sys.exit(0 if answer["ok"] else 1)


def _in_words(answer: dict[str, Any]) -> dict[str, str]:
    """Return what the check of a study found, a line each."""
    data, model, cost = answer["data"], answer["model"], answer["estimate"]
    names = [n if n == str(at) else f"{at} {n}" for at, n in enumerate(data["classes"])]
    sizes = ", ".join(f"{count:,} {split}" for split, count in data["sizes"].items())
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in cost["stages"].items())
    return {
        "data": f"{data['name']}: {sizes} images of {' x '.join(map(str, data['shape']))}",
        "classes": ", ".join(names[:20]) + (" …" if len(names) > 20 else ""),
        "model": f"{model['name']}: {model['parameters']:,} parameters, {model['weights']}, "
        f"weight decay {model['weight_decay']:g}",
        "accuracy": ", ".join(f"{s} {value:.1%}" for s, value in answer["accuracy"].items()),
        "time": f"about {cost['seconds']:.0f} s ({stages})",
        "memory": f"about {cost['memory_mb']:,.0f} MB",
        "hash": answer["hash"],
    }


def main() -> None:
    """The entry point of `gif` and `python -m gifcore`."""
    app(prog_name="gif")
