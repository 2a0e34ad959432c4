"""The table [[ranking.groups]] of a study: test images that are one query together; no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, field_validator
from pydantic import model_validator as checked

from gifcore.change_section import Position, Section


class GroupSection(Section):
    """Test images of one class, of one cell of the confusion matrix, or listed ones."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: Annotated[str, Field(min_length=1, max_length=80)] = Field(
        title="Name", description="Shown where a single test image has its number."
    )
    label: Position | None = Field(
        None, alias="class", title="Class", description="All test images of this class."
    )
    cell: tuple[Position, Position] | None = Field(  # (label, predicted)
        None,
        title="Cell of the confusion matrix",
        description="The test images of a class that the model takes for another one.",
    )
    samples: tuple[Position, ...] = Field(
        (), title="Test images", description="Positions in the test split."
    )

    @field_validator("name")
    @classmethod
    def _printable(cls, value: str) -> str:
        if not value.isprintable() or value != value.strip():
            raise ValueError("a name is printable and has no space at its ends")
        return value

    @field_validator("samples")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value):
            raise ValueError("name each test image once")
        return value

    @checked(mode="after")
    def _one_way(self) -> GroupSection:
        if (self.label is not None) + (self.cell is not None) + bool(self.samples) != 1:
            raise ValueError("a group is given by one of class, cell and samples")
        return self
