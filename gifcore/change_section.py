"""The section [change] of a study, one form for every kind of change; no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator
from pydantic import model_validator as checked

from gifcore.data.backdoor import Backdoor

REMOVALS = ("remove-class", "remove-samples")  # what second-order is for
BOUND = 2**31

Position = Annotated[int, Field(ge=0, lt=BOUND)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A part of a study: frozen, unknown keys and infinite numbers refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Change(Section):
    kind: str
    change_samples: int | None = Field(None, ge=1)  # estimate g from so many; None: from all


class _Listed(_Change):
    indices: tuple[Position, ...]  # positions in the training split

    @field_validator("indices")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("name one or more training samples, each once")
        return value


class RemoveClassSection(_Change):
    """Every training sample of one class goes."""

    kind: Literal["remove-class"] = "remove-class"
    label: int = Field(8, ge=0, lt=BOUND)  # the class to remove


class RemoveSamplesSection(_Listed):
    """These training samples go."""

    kind: Literal["remove-samples"] = "remove-samples"


class RelabelSection(_Listed):
    """These training samples get other labels."""

    kind: Literal["relabel"] = "relabel"
    labels: tuple[Position, ...]  # one a sample, in the order of the indices

    @checked(mode="after")
    def _as_many(self) -> RelabelSection:
        _refuse_unequal("labels", len(self.labels), len(self.indices))
        return self


class ReweightSection(_Listed):
    """These training samples count more or less; 1 is what every sample counts."""

    kind: Literal["reweight"] = "reweight"
    weights: tuple[Positive, ...]  # one a sample, in the order of the indices

    @checked(mode="after")
    def _as_many(self) -> ReweightSection:
        _refuse_unequal("weights", len(self.weights), len(self.indices))
        return self


class AddSamplesSection(_Change):
    """Samples of another data set come to the training set: those listed, a draw, or all."""

    kind: Literal["add-samples"] = "add-samples"
    source: str  # a registry name, or the path of an .npz file
    split: Literal["train", "validation", "test"] = "train"
    indices: tuple[Position, ...] | None = None  # positions in that split
    count: int | None = Field(None, ge=1)  # so many, drawn with the study's seed

    @checked(mode="after")
    def _one_way(self) -> AddSamplesSection:
        if self.indices is not None and self.count is not None:
            raise ValueError("give indices or count, not both")
        if self.indices is not None and (
            not self.indices or len(set(self.indices)) != len(self.indices)
        ):
            raise ValueError("name one or more samples to add, each once")
        return self


class BackdoorSection(_Change):
    """The training images carry a backdoor; the change gives the poisoned ones their labels back.

    The study plants it before the weights are loaded; they must be trained on the same images.
    """

    kind: Literal["backdoor"] = "backdoor"
    label: int = Field(4, ge=0, lt=BOUND)  # the class that the trigger stands for
    count: int = Field(100, ge=1, lt=BOUND)  # poisoned training images, of all classes
    size: int | None = Field(None, ge=2, lt=BOUND)  # side of the trigger; None: the whole image
    strength: float = Field(16 / 255, gt=0, le=1)  # share of the range from black to white
    seed: int = Field(0, ge=0, lt=2**63)  # of the draw of the images

    @property
    def backdoor(self) -> Backdoor:
        return Backdoor(self.label, self.count, self.size, self.strength, self.seed)


def kind_of(value: Any) -> str:
    """Return the kind that a section names; without one it removes a class."""
    if isinstance(value, dict):
        return str(value.get("kind", "remove-class"))
    return str(getattr(value, "kind", "remove-class"))


Single = Annotated[
    Annotated[RemoveClassSection, Tag("remove-class")]
    | Annotated[RemoveSamplesSection, Tag("remove-samples")]
    | Annotated[RelabelSection, Tag("relabel")]
    | Annotated[ReweightSection, Tag("reweight")]
    | Annotated[AddSamplesSection, Tag("add-samples")],
    Discriminator(kind_of),
]


class UnionSection(_Change):
    """All of these at once, each said of the training set before any of them."""

    kind: Literal["union"] = "union"
    changes: tuple[Single, ...]

    @field_validator("changes")
    @classmethod
    def _some(cls, value: tuple[_Change, ...]) -> tuple[_Change, ...]:
        if not value:
            raise ValueError("name one or more changes")
        if any(change.change_samples is not None for change in value):
            raise ValueError("change_samples is said of the union as a whole")
        return value


ChangeSection = Annotated[
    Annotated[RemoveClassSection, Tag("remove-class")]
    | Annotated[RemoveSamplesSection, Tag("remove-samples")]
    | Annotated[RelabelSection, Tag("relabel")]
    | Annotated[ReweightSection, Tag("reweight")]
    | Annotated[AddSamplesSection, Tag("add-samples")]
    | Annotated[BackdoorSection, Tag("backdoor")]
    | Annotated[UnionSection, Tag("union")],
    Discriminator(kind_of),
]
AnyChange = (
    RemoveClassSection
    | RemoveSamplesSection
    | RelabelSection
    | ReweightSection
    | AddSamplesSection
    | BackdoorSection
    | UnionSection
)
KINDS: dict[str, type[_Change]] = {
    "remove-class": RemoveClassSection,
    "remove-samples": RemoveSamplesSection,
    "relabel": RelabelSection,
    "reweight": ReweightSection,
    "add-samples": AddSamplesSection,
    "backdoor": BackdoorSection,
    "union": UnionSection,
}


def singles(change: AnyChange) -> tuple[_Change, ...]:
    """Return the changes that a change is made of: those of a union, else itself."""
    return change.changes if isinstance(change, UnionSection) else (change,)


def _refuse_unequal(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"{expected} indices need {expected} {what}, not {found}")
