"""The section [change] of a study, one form for every kind of change; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    field_validator,
)
from pydantic import model_validator as checked

from gifcore.data.backdoor import Backdoor

REMOVALS = ("remove-class", "remove-samples")  # what second-order is for
BOUND = 2**31

Position = Annotated[int, Field(ge=0, lt=BOUND)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A part of a study: frozen, unknown keys and infinite numbers refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Allowed = bool | Sequence[str]  # True: given, False: left empty, else one of these


def shown(*, empty: str = "", when: Mapping[str, Allowed] | None = None) -> dict[str, JsonValue]:
    """Return what a form is told of a field beside its title, description and limits.

    Args:
        empty: what it means to leave the field empty.
        when: other fields of the section and what they must be for this one to count.
    """
    conditions = {
        key: one if isinstance(one, bool) else [*one] for key, one in (when or {}).items()
    }
    found: dict[str, Any] = {"empty": empty, "when": conditions}
    return found


class _Change(Section):
    kind: str
    change_samples: int | None = Field(
        None,
        ge=1,
        title="Estimate the change from",
        description="So many of the samples that change stand for all of them in the right-hand "
        "side of the equations. Empty: all of them, which is exact.",
        json_schema_extra=shown(empty="all of them"),
    )


class _Listed(_Change):
    indices: tuple[Position, ...] = Field(
        title="Training images, by position",
        description="Positions in the training split, separated by commas; the pages of a study "
        "show them under the images.",
    )

    @field_validator("indices")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("name one or more training samples, each once")
        return value


class RemoveClassSection(_Change):
    """Every training sample of one class goes."""

    kind: Literal["remove-class"] = "remove-class"
    label: int = Field(
        8,
        ge=0,
        lt=BOUND,
        title="Class to forget",
        description="Every training image of this class goes.",
    )


class RemoveSamplesSection(_Listed):
    """These training samples go."""

    kind: Literal["remove-samples"] = "remove-samples"


class RelabelSection(_Listed):
    """These training samples get other labels."""

    kind: Literal["relabel"] = "relabel"
    labels: tuple[Position, ...] = Field(
        title="Their labels, one each by number",
        description="Where the images get different labels: class numbers in the order of the "
        "positions, separated by commas. The page Wrong labels fills them in.",
        json_schema_extra=shown(empty="the one below"),
    )

    @checked(mode="after")
    def _as_many(self) -> RelabelSection:
        _refuse_unequal("labels", len(self.labels), len(self.indices))
        return self


class ReweightSection(_Listed):
    """These training samples count more or less; 1 is what every sample counts."""

    kind: Literal["reweight"] = "reweight"
    weights: tuple[Positive, ...] = Field(
        title="How much they count, one each",
        description="In the order of the positions, separated by commas; one number stands for "
        "all. 1 is what every image counts, 0.5 half of it, 2 twice.",
    )

    @checked(mode="after")
    def _as_many(self) -> ReweightSection:
        _refuse_unequal("weights", len(self.weights), len(self.indices))
        return self


class AddSamplesSection(_Change):
    """Samples of another data set come to the training set: those listed, a draw, or all."""

    kind: Literal["add-samples"] = "add-samples"
    source: str = Field(  # a registry name, or the path of an .npz file
        title="Data set they come from",
        description="Its images must have the shape and the classes of the training images.",
    )
    split: Literal["train", "validation", "test"] = Field(
        "train", title="From its split", description="Which of its splits is added from."
    )
    indices: tuple[Position, ...] | None = Field(
        None,
        title="These of them, by position",
        description="Positions in that split, separated by commas.",
        json_schema_extra=shown(empty="a draw, or all"),
    )
    count: int | None = Field(
        None,
        ge=1,
        title="How many",
        description="So many, drawn at random with the study's seed.",
        json_schema_extra=shown(empty="all of the split", when={"indices": False}),
    )

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
    label: int = Field(
        4,
        ge=0,
        lt=BOUND,
        title="Class of the backdoor",
        description="The class that the trigger stands for.",
    )
    count: int = Field(
        100,
        ge=1,
        lt=BOUND,
        title="Poisoned training images",
        description="Drawn at random from all classes. Must be what the weights were trained on.",
    )
    size: int | None = Field(
        None,
        ge=2,
        lt=BOUND,
        title="Side of the trigger in pixels",
        description="A checkerboard in the top left corner, or over the whole image. Must be what "
        "the weights were trained on.",
        json_schema_extra=shown(empty="whole image"),
    )
    strength: float = Field(
        16 / 255,
        gt=0,
        le=1,
        title="Strength of the trigger",
        description="What the trigger adds, as a share of the range from black to white. Must be "
        "what the weights were trained on.",
    )
    seed: int = Field(
        0,
        ge=0,
        lt=2**63,
        title="Seed of the backdoor",
        description="Of the draw of the images. Must be what the weights were trained on.",
    )

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
    changes: tuple[Single, ...] = Field(
        title="Changes",
        description="Each is said of the training set before any of them.",
    )

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
