"""The section [mislabel] of a study: are wrong labels looked for, and which are known; no torch."""

from __future__ import annotations

from pydantic import Field
from pydantic import model_validator as checked

from gifcore.change_section import Section
from gifcore.data.noise import Noise


class MislabelSection(Section):
    """Are wrong training labels looked for, and were some planted before the training?"""

    rate: float | None = Field(None, ge=0, lt=1)  # of planted ones; 0: as they are; None: no search
    seed: int = Field(0, ge=0, lt=2**63)  # of the draw of the planted ones
    folds: int = Field(0, ge=0, le=20)  # models retrained for held-out probabilities; 0: none
    measured: bool = True  # False: the wrong labels are planted, and not looked for

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
