"""The section [fastif] of a study: which candidates and which solves are measured; no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic import model_validator as checked

from gifcore.change_section import BOUND, Section, shown

LISSA_SOLVES = ("if", "projected")  # methods whose system LiSSA walks by mini-batches
Count = Annotated[int, Field(ge=1, lt=BOUND)]
_USED = {"k": True}


class SolveSection(Section):
    """One way to approximate s_test by LiSSA; damp * scale is the damping it really has."""

    iterations: int = Field(
        1000,
        ge=1,
        le=100_000,
        title="Steps (J)",
        description="J: steps of each walk. About 5 / damp are needed; fewer leave the answer too "
        "short.",
    )
    batch_size: int = Field(
        1,
        ge=1,
        lt=BOUND,
        title="Batch size (B)",
        description="B: training images in the mini-batch of one step. More is steadier and "
        "slower.",
    )
    chains: int = Field(
        1,
        ge=1,
        le=1000,
        title="Chains (T)",
        description="T: independent walks whose mean is taken. More is steadier and slower.",
    )
    damp: float = Field(
        5e-3,
        ge=0,
        lt=1,
        title="Damp",
        description="Times the scale it is the damping that LiSSA really has.",
    )
    scale: float = Field(
        1e4,
        gt=0,
        title="Scale",
        description="Must be above half the largest curvature of a mini-batch, else the walk runs "
        "away.",
    )
    processes: int = Field(
        1,
        ge=1,
        le=256,
        title="Processes",
        description="That walk the chains side by side.",
    )


class FastIFSection(Section):
    """Is FastIF measured on the ranked test images, and with what?"""

    k: tuple[Count, ...] = Field(
        (),
        title="Measure FastIF with so many candidates",
        description="Numbers of nearest training images, separated by commas. The page Speed and "
        "recall then shows how much of the exact ranking they keep and what they save. Takes as "
        "many more solves and sweeps over the training images.",
        json_schema_extra=shown(empty="none; or 10, 100, 1000"),
    )
    depths: tuple[Count, ...] = Field(
        (),
        title="Depths of the recall",
        description="The m of recall@m, separated by commas.",
        json_schema_extra=shown(empty="10, 100, 1000, as far as there are images", when=_USED),
    )
    layer: str | None = Field(
        None,
        title="Features of the layer",
        description="Training images are near to a test image where these features are.",
        json_schema_extra=shown(empty="the last before the output", when=_USED),
    )
    index: Literal["Flat", "IVF", "HNSW"] | None = Field(
        None,
        title="Index",
        description="How the nearest are looked up: Flat is exact, the others are for very many "
        "images.",
        json_schema_extra=shown(empty="what suits the number of images", when=_USED),
    )
    index_file: str | None = Field(  # None: built, and kept beside the record
        None,
        title="Index made before",
        description="A file of an index, from `python -m gifcore`; it is checked to be the right "
        "one.",
        json_schema_extra=shown(when=_USED),
    )
    iterations: int | None = Field(
        None,
        ge=1,
        le=100_000,
        title="Iterations of the exact solves",
        description="Solves that are to be taken as exact should converge: raise this if the page "
        "says that they did not.",
        json_schema_extra=shown(empty="as the solver's", when=_USED),
    )
    solves: tuple[SolveSection, ...] = Field(
        (),
        title="LiSSA beside the exact solves",
        description="FastIF's own solver, in so many configurations, compared with the exact "
        "solves and with the gradient alone.",
        json_schema_extra=shown(when=_USED),
    )
    previews: tuple[Count, ...] = Field(
        (),
        title="Ranks of previews to compare with",
        description="Sketches made only to be compared with the candidates; 64 to 384.",
        json_schema_extra=shown(empty="none", when=_USED),
    )
    loop: int = Field(
        32,
        ge=0,
        lt=BOUND,
        title="Gradients the loop is timed on",
        description="One after the other, as FastIF computes them. 0 leaves it out.",
        json_schema_extra=shown(when=_USED),
    )

    @field_validator("k", "depths", "previews")
    @classmethod
    def _once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value):
            raise ValueError("name each number once")
        return tuple(sorted(value))

    @checked(mode="after")
    def _for_candidates(self) -> FastIFSection:
        rest = self.model_fields_set - {"k"}
        used = [name for name in sorted(rest) if getattr(self, name) != _DEFAULTS[name].default]
        if used and not self.k:
            raise ValueError(f"{used[0]} needs k, one or more numbers of candidates, in [fastif]")
        return self

    @property
    def enabled(self) -> bool:
        return bool(self.k)

    def resolved(self, folder: Path) -> FastIFSection:
        """Return the section with the path of its index taken from this folder."""
        if self.index_file is None:
            return self
        return self.model_copy(update={"index_file": str((folder / self.index_file).resolve())})


_DEFAULTS = FastIFSection.model_fields
