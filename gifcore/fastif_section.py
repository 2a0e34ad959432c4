"""The section [fastif] of a study: which candidates and which solves are measured; no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic import model_validator as checked

from gifcore.change_section import BOUND, Section

LISSA_SOLVES = ("if", "projected")  # methods whose system LiSSA walks by mini-batches
Count = Annotated[int, Field(ge=1, lt=BOUND)]


class SolveSection(Section):
    """One way to approximate s_test by LiSSA; damp * scale is the damping it really has."""

    iterations: int = Field(1000, ge=1, le=100_000)  # J
    batch_size: int = Field(1, ge=1, lt=BOUND)  # B
    chains: int = Field(1, ge=1, le=1000)  # T
    damp: float = Field(5e-3, ge=0, lt=1)
    scale: float = Field(1e4, gt=0)
    processes: int = Field(1, ge=1, le=256)  # that walk the chains side by side


class FastIFSection(Section):
    """Is FastIF measured on the ranked test images, and with what?"""

    k: tuple[Count, ...] = ()  # numbers of candidates; empty: FastIF is not measured
    depths: tuple[Count, ...] = ()  # m of recall@m; empty: 10, 100, 1000 as far as there are images
    layer: str | None = None  # whose features are compared; None: penultimate
    index: Literal["Flat", "IVF", "HNSW"] | None = None  # None: what suits the number of samples
    index_file: str | None = None  # an index made before; None: built, and kept beside the record
    iterations: int | None = Field(None, ge=1, le=100_000)  # of the exact solves; None: the study's
    solves: tuple[SolveSection, ...] = ()  # LiSSA beside the exact solves
    previews: tuple[Count, ...] = ()  # ranks of sketches to compare with
    loop: int = Field(32, ge=0, lt=BOUND)  # single gradients that the loop is timed on; 0: left out

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
