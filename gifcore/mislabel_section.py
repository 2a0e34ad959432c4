"""The section [mislabel] of a study: are wrong labels looked for, and which are known; no torch."""

from __future__ import annotations

from pydantic import Field
from pydantic import model_validator as checked

from gifcore.change_section import Section, shown
from gifcore.data.noise import Noise


class MislabelSection(Section):
    """Are wrong training labels looked for, and were some planted before the training?"""

    rate: float | None = Field(
        None,
        ge=0,
        lt=1,
        title="Share of wrong labels",
        description="Planted before the training; must be what the weights were trained with. 0: "
        "the labels are as they are.",
        json_schema_extra=shown(empty="wrong labels are not looked for"),
    )
    seed: int = Field(
        0,
        ge=0,
        lt=2**63,
        title="Seed of the wrong labels",
        description="Of the draw of the images and of their labels. Must be what the weights were "
        "trained with.",
        json_schema_extra=shown(when={"rate": True}),
    )
    folds: int = Field(
        0,
        ge=0,
        le=20,
        title="Models of held-out parts (0: none)",
        description="So many models are trained, each without one part of the training images; "
        "confident learning then judges every image by a model that never saw it. Takes as long as "
        "so many trainings.",
        json_schema_extra=shown(when={"measured": True}),
    )
    measured: bool = Field(
        True,
        title="Look for wrong labels",
        description="The page Wrong labels then lists the training images to inspect first, by "
        "every method that ranks and by the model's own probabilities. Takes the influence of all "
        "training images on themselves.",
    )

    @checked(mode="after")
    def _possible(self) -> MislabelSection:
        if self.folds == 1:
            raise ValueError("folds is 0, or 2 and more: each model leaves one part out")
        return self

    @property
    def enabled(self) -> bool:
        """Are the wrong labels looked for?"""
        return self.rate is not None and self.measured

    @property
    def noise(self) -> Noise | None:
        """Return the planted wrong labels, None if the labels are as they are."""
        return Noise(self.rate, self.seed) if self.rate else None

    @property
    def planted(self) -> MislabelSection:
        """Return the section that plants the same wrong labels and does not look for them."""
        if not self.rate:
            return MislabelSection()
        return MislabelSection(rate=self.rate, seed=self.seed, measured=False)
