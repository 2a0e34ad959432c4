"""Run a study into a folder: its turn, its stages, its record; cancel and resume."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gifcore import data as datasets
from gifcore.change_section import AddSamplesSection, BackdoorSection, singles
from gifcore.data.backdoor import Backdoor
from gifcore.data.hashing import sha256_of
from gifcore.errors import Cancelled, GifError
from gifcore.models import bundled, check_name, checkpoint_card, plugins
from gifcore.models.bundle import checkpoints_beside
from gifcore.record import (
    RECORD,
    SCHEMA,
    STUDY,
    Record,
    RecordError,
    list_workspace,
    write_atomically,
    write_json,
)
from gifcore.run_state import Listener, RunState, locked, read_state, turn
from gifcore.study import (
    Study,
    dumps,
    family_hash,
    method_hash,
    study_hash,
)

STAGES_FOLDER = ".stages"  # finished parts of a run, for resuming it; gone once it is finished
STAGES = [
    "load",
    "select",
    "solve",
    "rank",
    "mislabel",
    "fastif",
    "preview",
    "edit",
    "evaluate",
    "opinions",
    "retrain",
]


@dataclass(frozen=True)
class Prepared:
    """A study with the identity of everything it depends on; made without torch."""

    study: Study
    data_hash: str
    weights: Path
    weights_hash: str
    weight_decay: float
    training: str = ""  # hash of how the card says it was trained, where the study trains so again

    @property
    def hash(self) -> str:
        return study_hash(self.study, self.data_hash, self.weights_hash + self.training)

    @property
    def family(self) -> str:
        return family_hash(self.study, self.data_hash, self.weights_hash)

    def method_key(self, method: str) -> str:
        return method_hash(self.study, method, self.data_hash, self.weights_hash)


def prepare(study: Study) -> Prepared:
    """Find the study's data and weights and hash them.

    Raises:
        GifError: an unknown name or a file that is not there.
    """
    check_name(study.model.name)
    data_hash = datasets.fingerprint(study.data.source)
    weights = _weights(study)
    if isinstance(study.change, BackdoorSection):
        _refuse_other_backdoor(study, study.change.backdoor, data_hash, weights)
    _refuse_other_noise(study, data_hash, weights)
    decay = study.model.weight_decay
    if decay is None:
        decay = (checkpoint_card(weights) or {}).get("weight_decay", 0.0)
        if not isinstance(decay, int | float) or not 0 <= decay < math.inf:
            raise GifError(
                f"The card beside {weights} states the weight decay {decay!r}; it must be a number "
                "of 0 or more: repair it, or give model.weight_decay."
            )
        decay = float(decay)
    # the decay the card states decides the objective: it belongs to the identity of the weights
    known = f"{sha256_of([weights])} {decay!r}"
    points = checkpoints_beside(weights)
    if ("tracin" in study.methods or study.mislabel.enabled) and points.is_file():
        known += f" {sha256_of([points])}"
    for one in singles(study.change):
        if isinstance(one, AddSamplesSection):  # by content, wherever the file lies
            known += f" {_added(one, data_hash)}"
    if plugins.is_plugin(study.model.name):  # its code decides what is computed
        known += f" {sha256_of([plugins.source(study.model.name)])}"
    identity = hashlib.sha256(known.encode()).hexdigest()
    return Prepared(study, data_hash, weights, identity, decay, _trained_so(study, weights))


def _trained_so(study: Study, weights: Path) -> str:
    """Return the hash of the training on the card, if models are retrained as it says."""
    if not study.retrain.enabled or study.retrain.recipe != "sgd":
        return ""
    card = checkpoint_card(weights) or {}
    known = json.dumps([card.get("settings"), card.get("best_epoch")], sort_keys=True)
    return hashlib.sha256(known.encode()).hexdigest()


def _weights(study: Study) -> Path:
    """Return the checkpoint that the study names, or the bundled one of its data."""
    name, source = study.model.name, study.data.source
    if study.model.weights:
        weights = Path(study.model.weights)
    elif isinstance(study.change, BackdoorSection):
        found = bundled(name, f"{source}-backdoor")
        if found is None:
            raise GifError(
                f"No {name} trained on {source} with a backdoor is bundled; train one "
                f"({_training(study, '--backdoor ' + study.change.backdoor.words())}) and give it "
                "as model.weights."
            )
        weights = found
    elif study.mislabel.noise is not None:
        found = bundled(name, f"{source}-noise")
        if found is None:
            raise GifError(
                f"No {name} trained on {source} with wrong labels is bundled; train one "
                f"({_training(study, '--noise ' + study.mislabel.noise.words())}) and give it as "
                "model.weights."
            )
        weights = found
    else:
        found = bundled(name, source)
        if found is None:
            raise GifError(
                f"No trained {name} for {source} is bundled; train one "
                "(`python -m gifcore train`) and give its checkpoint as model.weights."
            )
        weights = found
    if not weights.is_file():
        raise GifError(f"There is no checkpoint {weights}.")
    return weights


def _added(section: AddSamplesSection, data_hash: str) -> str:
    """Return the hash of the data that samples are added from; refuse what judges the study."""
    found = datasets.fingerprint(section.source)
    if found == data_hash and section.split != "train":
        raise GifError(
            f"The {section.split} split of {section.source} judges this study and cannot be added "
            "to its training set; add samples of another data set."
        )
    return found


def _training(study: Study, option: str) -> str:
    return (
        f"`python -m gifcore train --data {study.data.source} --model {study.model.name} {option}`"
    )


def _refuse_other_backdoor(study: Study, backdoor: Backdoor, data_hash: str, weights: Path) -> None:
    """Refuse weights whose card does not name the very images that the study poisons."""
    card = checkpoint_card(weights) or {}
    known = card.get("data")
    same = isinstance(known, dict) and known.get("hash") == data_hash
    if card.get("backdoor") != asdict(backdoor) or not same:
        raise GifError(
            f"The card of {weights.name} does not say that it was trained on "
            f"{study.data.source} with the backdoor {backdoor.words()}; train it so "
            f"({_training(study, '--backdoor ' + backdoor.words())}) and give it as model.weights."
        )


def _refuse_other_noise(study: Study, data_hash: str, weights: Path) -> None:
    """Refuse weights whose card does not name the very wrong labels that the study plants."""
    noise = study.mislabel.noise
    if noise is None:
        return
    card = checkpoint_card(weights) or {}
    known = card.get("data")
    same = isinstance(known, dict) and known.get("hash") == data_hash
    if card.get("noise") != asdict(noise) or not same:
        raise GifError(
            f"The card of {weights.name} does not say that it was trained on "
            f"{study.data.source} with the wrong labels {noise.words()}; train it so "
            f"({_training(study, '--noise ' + noise.words())}) and give it as model.weights."
        )


def finished(out: Path, prepared: Prepared, workspace: Path) -> Record | None:
    """Return the record of this very study: in `out`, or linked there from the workspace.

    Raises:
        GifError: `out` holds another study, or something that is no study.
    """
    if out.exists() and not out.is_dir():
        raise GifError(f"{out} is a file; give a folder.")
    found = _hash_in(out)
    if found is not None and found != prepared.hash:
        raise GifError(f"{out} holds another study; choose another --out or remove it.")
    if found is not None:
        try:
            return Record.open(out)
        except RecordError:
            return None  # unfinished or damaged: computed again
    if out.exists() and not all(_is_leftover(path) for path in out.iterdir()):
        raise GifError(f"{out} holds other files; choose an empty or new folder for --out.")
    for entry in list_workspace(workspace):
        if entry.status == "finished" and entry.hash == prepared.hash:
            with suppress(RecordError):  # damaged: computed again
                record = Record.open(entry.path)
                _link(out, record.path)
                return record
    return None


def _is_leftover(path: Path) -> bool:
    """Is this what a run that was stopped may leave in its folder?"""
    return path.name in (".lock", STAGES_FOLDER) or path.suffix == ".tmp"


def _link(out: Path, target: Path) -> None:
    try:
        if out.is_symlink():
            out.unlink()
        elif out.exists():
            shutil.rmtree(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.symlink_to(target.resolve())
    except OSError as error:
        raise GifError(f"Cannot make the folder {out}: {error.strerror}.") from None


def _hash_in(out: Path) -> str | None:
    """Return the hash of the study a folder holds, None if it holds none."""
    if (out / RECORD).exists():
        try:
            return str(json.loads((out / RECORD).read_text(encoding="utf-8"))["hash"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
    state = read_state(out)
    return None if state is None else state["hash"] or "damaged"


def run(
    prepared: Prepared,
    out: Path,
    *,
    workspace: Path,
    reuse: Path | None = None,
    link: bool = False,
    listen: Listener | None = None,
) -> Record:
    """Run a study whole and return its record.

    Args:
        out: the folder of the record.
        workspace: studies of one workspace run one at a time, first come, first served.
        reuse: a record from which methods with the same key are taken, not computed.
        link: point to those methods' rows in `reuse`, a sibling folder, instead of copying them.
        listen: called with run.json's content whenever it changes.

    Raises:
        Cancelled: by SIGINT or SIGTERM; the folder says so and keeps the finished stages.
        GifError: anything a user can mend, in one sentence; the folder says so too.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        workspace.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GifError(f"Cannot make the folder {error.filename}: {error.strerror}.") from None
    with locked(
        out / ".lock", f"This study is running already in {out}; wait for it or cancel it."
    ):
        state = RunState(out, prepared.study.title, prepared.hash, STAGES, listen)
        with _signals(state):
            return _guarded(prepared, out, workspace, reuse, link, state)


def _guarded(
    prepared: Prepared, out: Path, workspace: Path, reuse: Path | None, link: bool, state: RunState
) -> Record:
    try:
        (out / RECORD).unlink(missing_ok=True)
        write_atomically(out / STUDY, dumps(prepared.study).encode())
        state.write()
        with turn(workspace, state):
            state.values["status"] = "running"
            state.write()
            from gifcore.pipeline import compute

            reused = Record.open(reuse) if reuse else None
            compute(prepared, out, reused, link, state, workspace)
        state.end("finished")
        shutil.rmtree(out / STAGES_FOLDER, ignore_errors=True)
        return Record.open(out)
    except Cancelled as error:
        entry = {"hash": prepared.hash, "title": prepared.study.title, "methods": {}, "queries": []}
        try:  # first the record: whoever reads the state finds it
            cancelled = {"schema": SCHEMA, "status": "cancelled", **entry, "files": {}}
            write_json(out / RECORD, cancelled)
        finally:
            state.end("cancelled", str(error))
        raise
    except GifError as error:
        _say_failed(state, str(error))
        raise
    except Exception as error:
        if _out_of_memory(error):
            sentence = "Out of memory: lower curvature.memory_mb or curvature.batch_size."
            _say_failed(state, sentence)
            raise GifError(sentence) from None
        _say_failed(state, f"Unexpected {type(error).__name__}: {error}")
        raise


def _out_of_memory(error: Exception) -> bool:
    """Is this Python's MemoryError, or what torch's allocator raises in its place?"""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


def _say_failed(state: RunState, message: str) -> None:
    with suppress(GifError):  # the disk is full: the sentence still reaches the terminal
        state.end("failed", message)


@contextmanager
def _signals(state: RunState) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into a cancel at the next tick; a second one ends at once."""

    def ask(number: int, _frame: Any) -> None:
        if state.cancelled.is_set():
            sys.exit(128 + number)
        state.cancelled.set()

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever called cancels by state
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def default_folder(prepared: Prepared, workspace: Path) -> Path:
    """Return where a study without --out goes: equal studies to equal folders."""
    words = "".join(c if c.isalnum() else "-" for c in prepared.study.title.lower())
    name = "-".join(filter(None, words.split("-")))[:40] or "study"
    return workspace / f"{name}-{prepared.hash[:8]}"
