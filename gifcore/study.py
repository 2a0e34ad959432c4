"""What a study is: a validated, frozen configuration, its file form and its hash.

Nothing here imports torch: the dashboard reads and writes studies too.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from gifcore.change_section import (
    REMOVALS,
    AddSamplesSection,
    BackdoorSection,
    ChangeSection,
    RemoveClassSection,
    Section,
    UnionSection,
)
from gifcore.data.backdoor import Backdoor
from gifcore.data.noise import Noise
from gifcore.errors import GifError
from gifcore.explained import explained
from gifcore.fastif_section import LISSA_SOLVES, FastIFSection
from gifcore.mislabel_section import MislabelSection
from gifcore.retrain_section import RetrainSection
from gifcore.sections import (
    SELECTORS,
    CurvatureSection,
    DataSection,
    EditSection,
    ModelSection,
    PreviewSection,
    RankedTarget,
    RankingSection,
    SelectionSection,
    Selector,
    SolverSection,
)
from gifcore.version import ENGINE_VERSION

__all__ = [
    "LATER",
    "METHODS",
    "METHOD_LABELS",
    "RANKS",
    "SELECTORS",
    "USES_SELECTION",
    "CurvatureSection",
    "DataSection",
    "EditSection",
    "FastIFSection",
    "Method",
    "MislabelSection",
    "ModelSection",
    "PreviewSection",
    "RankedTarget",
    "RankingSection",
    "RetrainSection",
    "SelectionSection",
    "Selector",
    "SolverSection",
    "Study",
    "dumps",
    "family_hash",
    "for_query",
    "method_hash",
    "parse",
    "read",
    "read_backdoor",
    "read_noise",
    "resolve_paths",
    "study_hash",
]

METHODS: dict[str, str] = {
    "gif": "Generalized influence function: least squares on the selected parameters",
    "if": "Classic influence function: inverse Hessian on all parameters",
    "gradient": "Gradient step on the selected parameters (the control)",
    "projected": "Projected influence: the classic move, cut to the selected parameters",
    "freeze": "Freezing: inverse Hessian of the selected parameters alone, all others ignored",
    "second-order": (
        "Second-order group influence, cut to the selected parameters; gives no ranking"
    ),
    "tracin": "TracIn: gradients summed over checkpoints of the training",
    "datainf": "DataInf: closed form from single gradients, layer by layer",
    "hyperinf": "HyperINF: GIF's system by Schulz doubling",
    "ekfac": "EK-FAC: closed form from Kronecker factors, layer by layer",
}
METHOD_LABELS: dict[str, str] = {
    "gif": "GIF",
    "if": "IF",
    "gradient": "Gradient",
    "projected": "Projected",
    "freeze": "Freeze",
    "second-order": "Second-order",
    "tracin": "TracIn",
    "datainf": "DataInf",
    "hyperinf": "HyperINF",
    "ekfac": "EK-FAC",
}
USES_SELECTION: dict[str, bool] = {name: name != "if" for name in METHODS}
RANKS: dict[str, bool] = {name: name != "second-order" for name in METHODS}

Method = Literal[
    "gif",
    "if",
    "gradient",
    "projected",
    "freeze",
    "second-order",
    "tracin",
    "datainf",
    "hyperinf",
    "ekfac",
]


class Study(Section):
    """One question asked of one model and one data set; equal studies have equal hashes."""

    title: str = Field(
        "Untitled study",
        title="Title",
        description="What the study is called in lists; it changes nothing else.",
    )
    seed: int = Field(
        0,
        ge=0,
        lt=2**63,
        title="Seed",
        description="Fixes every random draw: curvature samples, probes, random selection.",
    )
    methods: tuple[Method, ...] = Field(
        ("if", "gif"),
        title="Methods",
        description="IF moves all parameters, every other method only the selected ones. Each "
        "method is solved, ranked and tried on the model; TracIn, DataInf, EK-FAC and Gradient "
        "cost least.",
    )
    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
    change: ChangeSection = RemoveClassSection()
    selection: SelectionSection = SelectionSection()
    curvature: CurvatureSection = CurvatureSection()
    solver: SolverSection = SolverSection()
    ranking: RankingSection = RankingSection()
    mislabel: MislabelSection = MislabelSection()
    fastif: FastIFSection = FastIFSection()
    preview: PreviewSection = PreviewSection()
    edit: EditSection = EditSection()
    retrain: RetrainSection = RetrainSection()

    @field_validator("methods")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("name one or more methods, each once: " + ", ".join(METHODS))
        return value

    @model_validator(mode="after")
    def _together(self) -> Study:
        """Refuse what each section allows and both together do not."""
        change = self.change
        if "second-order" in self.methods and change.kind not in REMOVALS:
            raise ValueError(
                f"second-order is for {' and '.join(REMOVALS)}; leave it out of methods, or change "
                f"change.kind = {change.kind!r}"
            )
        if self.fastif.solves and not set(LISSA_SOLVES) & set(self.methods):
            raise ValueError(f"fastif.solves needs one of the methods {', '.join(LISSA_SOLVES)}")
        if self.ranking.target != "loss" and (self.preview.rank or self.fastif.previews):
            raise ValueError(
                f"previews are of the loss, not of ranking.target = {self.ranking.target!r}: leave "
                "preview.rank and fastif.previews out, or the target"
            )
        if self.mislabel.rate and isinstance(change, BackdoorSection):
            raise ValueError(
                "a backdoor and planted wrong labels (mislabel.rate) are not for one study"
            )
        return self

    @property
    def on_themselves(self) -> bool:
        """Is the influence of the training samples on themselves computed?"""
        return self.ranking.self_influence or self.mislabel.enabled


def read_backdoor(words: str) -> Backdoor:
    """Return the backdoor of `train --backdoor`: "label=4,count=100,size=3,strength=1,seed=0".

    What is left out is as in a study.

    Raises:
        GifError: words that are no numbers by name, or as `parse`.
    """
    values = {"kind": "backdoor"} | _by_name(words, "--backdoor", "label=4")
    change = parse({"change": values}, origin="--backdoor").change
    assert isinstance(change, BackdoorSection)
    return change.backdoor


def read_noise(words: str) -> Noise:
    """Return the wrong labels of `train --noise`: "rate=0.1,seed=0".

    Raises:
        GifError: words that are no numbers by name, or as `parse`.
    """
    values = _by_name(words, "--noise", "rate=0.1")
    noise = parse({"mislabel": values}, origin="--noise").mislabel.noise
    if noise is None:
        raise GifError("--noise: give a rate above 0, as in rate=0.1,seed=0.")
    return noise


def _by_name(words: str, option: str, example: str) -> dict[str, str]:
    values = {}
    for word in words.split(","):
        name, equal, value = word.partition("=")
        if not equal:
            raise GifError(f"{option}: '{word}' is not of the form {example}; separate by commas.")
        values[name.strip()] = value.strip()
    return values


def parse(values: dict[str, Any], *, origin: str = "study") -> Study:
    """Return the validated study.

    Raises:
        GifError: with the key, the value and what is allowed, for the first thing that is wrong.
    """
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        raise GifError(explained(error, origin, Study)) from None


def read(path: str | Path) -> Study:
    """Read a study from a TOML file; relative paths in it are taken from the file's folder."""
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GifError(f"Cannot read the study {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GifError(f"{path} is not a TOML file: {error}.") from None
    study = parse(values, origin=str(path))
    return resolve_paths(study, path.parent)


def resolve_paths(study: Study, folder: Path) -> Study:
    """Return the study with its file paths made absolute (registry names stay)."""
    data, model = study.data, study.model
    if data.source.endswith(".npz"):
        data = data.model_copy(update={"source": str((folder / data.source).resolve())})
    if model.weights:
        model = model.model_copy(update={"weights": str((folder / model.weights).resolve())})
    change, fastif = _resolved(study.change, folder), study.fastif.resolved(folder)
    sections = {"data": data, "model": model, "change": change, "fastif": fastif}
    return study.model_copy(update=sections)


def _resolved(change: Any, folder: Path) -> Any:
    if isinstance(change, UnionSection):
        inner = tuple(_resolved(one, folder) for one in change.changes)
        return change.model_copy(update={"changes": inner})
    if isinstance(change, AddSamplesSection) and change.source.endswith(".npz"):
        return change.model_copy(update={"source": str((folder / change.source).resolve())})
    return change


def dumps(study: Study) -> str:
    """Return the study as TOML; `parse` of it gives it back (a key left out means None)."""
    values = study.model_dump(exclude_none=True)
    lines = [f"{key} = {_toml(value)}" for key, value in values.items() if type(value) is not dict]
    for key, section in values.items():
        if isinstance(section, dict):
            lines += ["", f"[{key}]"] + _lines({k: v for k, v in section.items() if not _many(v)})
            for name, tables in section.items():
                for table in tables if _many(tables) else ():
                    lines += ["", f"[[{key}.{name}]]"] + _lines(table)
    return "\n".join(lines) + "\n"


def _lines(values: dict[str, Any]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in values.items()]


def _many(value: Any) -> bool:
    """Is this a list of tables?"""
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], dict)


def _toml(value: Any) -> str:
    text = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")  # the one character that JSON leaves and TOML forbids


def _digest(values: Any) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _content(study: Study, data_hash: str, weights_hash: str) -> dict[str, Any]:
    # an index is checked to be the right one
    hidden: Any = {"title": True, "fastif": {"index_file"}, "retrain": {"processes"}}
    values = study.model_dump(mode="json", exclude=hidden)
    values["data"] = data_hash
    values["model"] |= {"weights": weights_hash}
    for section, key in LATER:  # a study that does not use them is the study it was before
        chosen = getattr(study, section)
        if getattr(chosen, key) == type(chosen).model_fields[key].default:
            del values[section][key]
    if study.mislabel.rate is None:
        del values["mislabel"]
    if not study.fastif.enabled:
        del values["fastif"]
    if not study.preview.rank:
        del values["preview"]
    if not study.retrain.enabled:
        del values["retrain"]
    for one in [values["change"], *values["change"].get("changes", ())]:
        if one["kind"] == "add-samples":
            del one["source"]  # by its content: in the hash of the weights (`runner.prepare`)
    return values | {"engine": ENGINE_VERSION}


LATER = (  # keys that were added after the first records were shipped
    ("change", "change_samples"),
    ("selection", "layers"),
    ("selection", "kinds"),
    ("selection", "norms"),
    ("selection", "budget"),
    ("curvature", "sampler"),
    ("curvature", "draws"),
    ("solver", "kind"),
    ("solver", "batch_size"),
    ("solver", "chains"),
    ("solver", "damp"),
    ("solver", "scale"),
    ("ranking", "groups"),
    ("ranking", "self_influence"),
    ("ranking", "target"),
    ("edit", "min_scale"),
    ("edit", "evaluations"),
)


def study_hash(study: Study, data_hash: str, weights_hash: str) -> str:
    """Return the hash of everything that decides the result: config, data, weights, engine."""
    return _digest(_content(study, data_hash, weights_hash))


def family_hash(study: Study, data_hash: str, weights_hash: str) -> str:
    """Return the hash of studies that differ only in selection, preview and retrained models."""
    values = _content(study, data_hash, weights_hash)
    del values["selection"]
    values.pop("preview", None)
    values.pop("retrain", None)
    return _digest(values)


def method_hash(study: Study, method: str, data_hash: str, weights_hash: str) -> str:
    """Return the hash of what one method's numbers depend on (`if` knows no selection)."""
    values = _content(study, data_hash, weights_hash) | {"method": method}
    del values["methods"]
    values.pop("fastif", None)
    values.pop("preview", None)
    values.pop("retrain", None)
    if not USES_SELECTION[method]:
        del values["selection"]
    return _digest(values)


def for_query(study: Study, query: int) -> Study:
    """Return the study that only solves and ranks one more test image with the same settings."""
    return study.model_copy(
        update={
            "title": f"{study.title}: test image {query}",
            "methods": tuple(m for m in study.methods if RANKS[m]) or study.methods,
            "ranking": study.ranking.model_copy(
                update={"queries": (query,), "count": 0, "groups": (), "self_influence": False}
            ),
            "edit": study.edit.model_copy(update={"enabled": False}),
            "mislabel": study.mislabel.planted,
            "fastif": FastIFSection(),
            "preview": PreviewSection(),
            "retrain": RetrainSection(),
        }
    )
