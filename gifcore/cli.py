"""The command line: train, run, list, show, reproduce, own, models, doctor.

Torch is imported only where it computes.
"""

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
Workspace = Annotated[Path, typer.Option(help="Folder of all studies.")]
err = Console(stderr=True)


@app.callback()
def _options(
    plugin: Annotated[
        list[str] | None,
        typer.Option(help="A Python module with architectures of your own; may be repeated."),
    ] = None,
) -> None:
    """GIF Studio: influence, edits, records."""
    from gifcore.models import plugins

    with _sentences():
        for module in plugin or ():
            plugins.allow(module)


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
    from gifcore import runner, showing
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
        showing.show(record)
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
    """Show a record: the verdict, accuracy before and after, the certificate of every update."""
    from gifcore import showing
    from gifcore.record import Record, foreign
    from gifcore.run_state import read_state

    with _sentences():
        state = read_state(folder)
        if state is not None and state["status"] != "finished":
            raise GifError(f"{folder} holds no result: {state['status']}. {state['message']}")
        record = Record.open(folder)
        try:
            showing.show(record)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise foreign(folder, error) from None


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
def reproduce(
    file: Annotated[Path, typer.Argument(help="An experiment in TOML, of assets/studies.")],
    preset: Annotated[str, typer.Option(help="quick or full.")] = "quick",
    protocol: Annotated[str, typer.Option(help="ours, paper or both; none: as the file.")] = "",
    seeds: Annotated[int | None, typer.Option(help="How many, from 0.")] = None,
    data: Annotated[str, typer.Option(help="Another data set, by name or .npz path.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder of runs and tables.")] = None,
    workspace: Workspace = WORKSPACE,
) -> None:
    """Run an experiment of the papers again: tables by our protocol and by the published one."""
    with _sentences():
        from gifcore.experiments import command

        with _one_bar() as listen:
            asked = command.Asked(preset, protocol, seeds, data)
            text = command.reproduce(file, asked, out, workspace, listen=listen, say=_aside)
        print(text, end="")


def _aside(line: str) -> None:
    """Print a line that is no result."""
    err.print(escape(line), highlight=False, soft_wrap=True)


@contextmanager
def _one_bar() -> Iterator[Any]:
    """Draw how much of the expected time is done."""
    columns = (
        BarColumn(24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=err, transient=not err.is_terminal) as progress:
        task = progress.add_task("preparing", total=None)

        def listen(done: float, total: float, note: str) -> None:
            progress.update(task, completed=done, total=max(total, 1e-9), description=escape(note))

        yield listen


@app.command("models")
def list_models() -> None:
    """List the architectures by name: our own, those of each --plugin, those of torchvision."""
    from gifcore import models
    from gifcore.models import plugins
    from gifcore.models.torchvision_names import NAMES, PREFIX

    with _sentences():
        for name in [*models.MODELS, *plugins.names(), *(PREFIX + name for name in NAMES)]:
            print(name)


@app.command()
def own(
    data: Annotated[str, typer.Option(help="An .npz, .zip, .csv or .parquet file, or a name.")],
    model: Annotated[str | None, typer.Option(help="An architecture; none: data alone.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Its checkpoint.")] = None,
    label: Annotated[str, typer.Option(help="Label column of a table.")] = "",
    drop: Annotated[str, typer.Option(help="Columns that are no inputs, by comma.")] = "",
    size: Annotated[str, typer.Option(help="HxW that pictures are scaled to: 32x32.")] = "",
    channels: Annotated[int | None, typer.Option(help="1 or 3; none: as they are.")] = None,
    mean: Annotated[str, typer.Option(help="Of the normalisation, a channel each.")] = "",
    std: Annotated[str, typer.Option(help="Of the normalisation, a channel each.")] = "",
    seed: Annotated[int, typer.Option(help="Of splits that are drawn.")] = 0,
    shares: Annotated[
        str, typer.Option(help="Of validation and test, where splits are drawn: 0.15,0.15.")
    ] = "",
    workspace: Workspace = WORKSPACE,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, a line each.")] = False,
) -> None:
    """Say what a model and data of your own turn out to be, before anything is computed."""
    from gifcore import understood

    with _sentences():
        reading = understood.reading_of(label, drop, size, channels, mean, std, seed, shares)
        progress = understood.printed if as_json else understood.unheard
        answer = understood.understand(
            data,
            workspace=workspace,
            reading=reading,
            model=model,
            weights=weights,
            progress=progress,
        )
    if as_json:
        print(json.dumps(answer), flush=True)
    else:
        for line in understood.in_words(answer):
            print(line)
    if not answer["ok"] and not as_json:
        err.print(f"[red]Error:[/red] {escape(answer['error'])}", highlight=False, soft_wrap=True)
    raise typer.Exit(0 if answer["ok"] else 1)


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
    """The entry point of `gif` and `python -m gifcore`; --plugin may stand anywhere."""
    first, rest = _plugins_first(sys.argv[1:])
    app([*first, *rest], prog_name="gif")


def _plugins_first(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the options --plugin and what is left.

    >>> _plugins_first(["run", "a.toml", "--plugin", "my.nets", "--plugin=b"])
    (['--plugin', 'my.nets', '--plugin=b'], ['run', 'a.toml'])
    """
    first, rest = [], []
    left = iter(arguments)
    for word in left:
        if word == "--plugin":
            first += [word, *([value] if (value := next(left, None)) is not None else [])]
        elif word.startswith("--plugin="):
            first.append(word)
        else:
            rest.append(word)
    return first, rest
