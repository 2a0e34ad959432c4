"""What a model and data of one's own turn out to be, before anything is computed with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gifcore import data as datasets
from gifcore import models
from gifcore.data.foreign import Progress, Reading
from gifcore.data.own import as_npz
from gifcore.data.survey import survey
from gifcore.errors import GifError
from gifcore.models.bundle import checkpoint_card

if TYPE_CHECKING:
    from gifcore.data.dataset import Data

OF_TRAIN = 5000  # training samples that the accuracy on train is measured on, evenly spaced
SMALL_GAIN = 0.02  # above always saying the most frequent class: not better than that


def understand(
    source: str,
    *,
    workspace: Path,
    reading: Reading | None = None,
    model: str | None = None,
    weights: Path | None = None,
    progress: Progress,
) -> dict[str, Any]:
    """Return what was understood, as JSON takes it; what does not fit is under "error".

    Args:
        source: a data set's name, or the path of an NPZ, zip, CSV or Parquet file.
        workspace: where an NPZ file is kept that a zip or a table becomes.
        reading: how a zip or a table is read.
        model: an architecture's name; None: the data alone.
        weights: its checkpoint; None: the one that comes with GIF Studio for these data.
        progress: (done, total, note).

    Returns:
        "ok", "data" (see `survey`), "model" and "accuracy" as far as it came; "error": one
        sentence and "step": "data" or "model", if it did not come to the end.
    """
    answer: dict[str, Any] = {"ok": False, "step": "data"}
    try:
        progress(0, 1, "reading the data")
        if source not in datasets.DATASETS:
            source = str(as_npz(Path(source), workspace, reading or Reading(), progress).resolve())
        data = datasets.load(source)
        progress(0, 1, "looking for duplicates")
        answer["data"] = survey(data)
        answer["step"] = "model"
        if model is not None:
            answer |= _of_model(data, source, model, weights, answer["data"], progress)
        answer["ok"] = True
    except GifError as error:
        answer["error"] = str(error)
    return answer


def _of_model(
    data: Data,
    source: str,
    name: str,
    weights: Path | None,
    about: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    models.check_name(name)
    path = weights or models.bundled(name, source)
    if path is None:
        raise GifError(
            f"No trained {models.title(name)} for {source} comes with GIF Studio; give its weights."
        )
    progress(0, 1, "loading the model")
    import torch

    from gifcore.problem import Problem

    with torch.random.fork_rng(devices=[]):
        net = models.build(name, data.shape, data.n_classes)
    notes = models.load_weights(net, path)
    few = np.linspace(0, len(data.train) - 1, min(OF_TRAIN, len(data.train))).astype(np.int64)
    problem = Problem(net, _tensors(data, "train", few))
    accuracy, right = _accuracies(problem, data, few, progress)
    kinds = sorted({str(t.dtype).removeprefix("torch.") for t in net.state_dict().values()})
    card = checkpoint_card(path) or {}
    found = {
        "name": name,
        "title": models.title(name),
        "weights": str(path.resolve()),
        "bundled": weights is None,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "tensors": len(net.state_dict()),
        "bytes": path.stat().st_size,
        "kinds": kinds,
        "notes": list(notes),
        "weight_decay": card.get("weight_decay"),
        "warnings": _warnings(accuracy, about),
    }
    return {"model": found, "accuracy": accuracy, "right": right, "train_measured": len(few)}


def _tensors(data: Data, split: str, rows: np.ndarray) -> Any:
    import torch
    from torch.utils.data import TensorDataset

    from gifcore.data.dataset import Split

    chosen = data.split(split)
    part = Split(chosen.x[rows], chosen.y[rows])
    return TensorDataset(torch.from_numpy(part.inputs()), torch.from_numpy(part.y))


def _accuracies(
    problem: Any, data: Data, few: np.ndarray, progress: Progress
) -> tuple[dict[str, float], list[float | None]]:
    """Return the share of right predictions a split, and of every class on the test split."""
    from gifcore.evaluate import predict

    rows = {"train": few, "validation": np.arange(len(data.validation))}
    rows["test"] = np.arange(len(data.test))
    total, before = sum(map(len, rows.values())), 0
    shares: dict[str, float] = {}
    right: list[float | None] = []
    for split, at in rows.items():

        def report(done: int, _total: int, _note: str, split: str = split) -> None:
            progress(before + done, total, f"predicting {split}")  # noqa: B023 - called at once

        found = predict(problem, _tensors(data, split, at), progress=report)
        fine = found.predicted == found.labels
        shares[split] = float(fine.mean())
        before += len(at)
        if split == "test":
            right = [
                float(fine[found.labels == label].mean()) if (found.labels == label).any() else None
                for label in range(data.n_classes)
            ]
    return shares, right


def _warnings(accuracy: dict[str, float], about: dict[str, Any]) -> list[str]:
    said = []
    if accuracy["test"] < about["most_frequent"] + SMALL_GAIN:
        said.append(
            f"The model is right on {accuracy['test']:.1%} of the test samples; always saying the "
            f"most frequent class would be right on {about['most_frequent']:.1%}. Are the inputs "
            "prepared as in its training (scale, normalisation, colour), and the classes in the "
            "same order?"
        )
    elif accuracy["train"] + 0.05 < accuracy["test"]:
        said.append(
            f"The model is better on test ({accuracy['test']:.1%}) than on train "
            f"({accuracy['train']:.1%}): are the splits those it was trained with?"
        )
    return said


# --- in words ------------------------------------------------------------------------------------


def in_words(answer: dict[str, Any]) -> Iterator[str]:
    """Yield what was understood, a line each, for the terminal."""
    if "data" in answer:
        yield from _data_words(answer["data"])
    if "model" in answer:
        found = answer["model"]
        yield (
            f"model: {found['title']}, {found['parameters']:,} parameters in {found['tensors']} "
            f"tensors ({', '.join(found['kinds'])}), from {found['weights']}"
        )
        yield from (f"undone: {note}" for note in found["notes"])
        yield "accuracy: " + ", ".join(f"{s} {v:.1%}" for s, v in answer["accuracy"].items())
        yield from (f"warning: {said}" for said in found["warnings"])
    if answer["ok"] and "model" in answer:
        yield "a study of these: " + "; ".join(study_lines(answer))


def _data_words(about: dict[str, Any]) -> Iterator[str]:
    sizes = ", ".join(f"{count:,} {split}" for split, count in about["sizes"].items())
    yield f"data: {about['name']}: {sizes} samples of {' x '.join(map(str, about['shape']))}"
    low, high = about["range"]
    yield f"inputs: {about['dtype']} from {low:g} to {high:g}"
    yield f"note: {about['note']}"
    counts = about["counts"]["train"]
    listed = [f"{n} {c:,}" for n, c in zip(about["classes"], counts, strict=True)]
    yield f"classes: {_few(listed)} training samples"
    twice = ", ".join(f"{pair} {count:,}" for pair, count in about["duplicates"].items())
    yield f"duplicates: {twice}"
    yield f"file: {about['source']}"
    yield from (f"warning: {said}" for said in about["warnings"])


def _few(listed: Sequence[str]) -> str:
    return ", ".join(listed[:20]) + (" …" if len(listed) > 20 else "")


def study_lines(answer: dict[str, Any]) -> list[str]:
    """Return the lines of a study file that name this model and these data."""
    found = answer["model"]
    lines = [f'data.source = "{answer["data"]["source"]}"', f'model.name = "{found["name"]}"']
    return lines if found["bundled"] else [*lines, f'model.weights = "{found["weights"]}"']


# --- from and to the command line ----------------------------------------------------------------


def reading_of(
    label: str,
    drop: str,
    size: str,
    channels: int | None,
    mean: str,
    std: str,
    seed: int,
    shares: str = "",
) -> Reading:
    """Return how a file is to be read, from the words of the command line.

    Args:
        shares: of validation and test, where they are drawn: "0.15,0.15".

    Raises:
        GifError: a word that is none.

    >>> reading_of("y", "id, name", "32x24", None, "0.5", "0.25", 0).size
    (32, 24)
    """
    height, by, width = size.lower().partition("x")
    try:
        wanted = (int(height), int(width if by else height)) if size else None
        means, stds = _numbers(mean), _numbers(std)
    except ValueError:
        raise GifError(
            f"The size '{size}', mean '{mean}' and std '{std}' are not all numbers; write them as "
            "32x32 and 0.5,0.5,0.5."
        ) from None
    columns = tuple(word.strip() for word in drop.split(",") if word.strip())
    return Reading(label, columns, wanted, channels, means, stds, seed, *_shares(shares))


def _shares(words: str) -> tuple[float, ...]:
    if not words:
        return ()
    try:
        validation, test = _numbers(words)
    except ValueError:
        raise GifError(
            f"The shares '{words}' are not two numbers; write validation and test as 0.15,0.15."
        ) from None
    return validation, test


def _numbers(words: str) -> tuple[float, ...]:
    return tuple(float(word) for word in words.split(",") if word.strip())


def printed(done: int, total: int, note: str) -> None:
    """Print progress as a line of JSON, for the dashboard."""
    print(json.dumps({"progress": done / max(total, 1), "note": note}), flush=True)


def unheard(done: int, total: int, note: str) -> None:  # noqa: ARG001
    """The progress callback of a terminal: what is asked here takes seconds."""
