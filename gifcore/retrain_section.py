"""The section [retrain] of a study: how many models are trained again, and how; no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic import model_validator as checked

from gifcore.change_section import Section


class RetrainSection(Section):
    """Is the edit held against models that are really trained on the changed data?

    sgd trains as the checkpoint's card says, minimise goes to the minimum of the objective by
    L-BFGS (for small models), proximal asks how this very model would respond (PBRF).
    """

    seeds: int = Field(0, ge=0, le=100)  # models, of the seeds 1, 2, …; 0: nothing is retrained
    recipe: Literal["sgd", "minimise", "proximal"] = "sgd"
    start: Literal["cold", "warm"] = "cold"  # from fresh or trained parameters; proximal is warm
    processes: int = Field(1, ge=1, le=256)  # that train side by side, one thread each
    epochs: int | None = Field(None, ge=1, le=100_000)  # of sgd; None: as the card says

    @checked(mode="after")
    def _possible(self) -> RetrainSection:
        if self.epochs is not None and self.recipe != "sgd":
            raise ValueError("epochs are those of recipe 'sgd'; leave them out")
        if self.seeds > 1 and not self.draws:
            raise ValueError(
                f"recipe '{self.recipe}' draws nothing, so every seed gives the same model: set "
                "seeds = 1, or recipe = 'sgd'"
            )
        return self

    @property
    def enabled(self) -> bool:
        return self.seeds > 0

    @property
    def draws(self) -> bool:
        """Do two seeds give two models?"""
        return self.recipe == "sgd" or (self.recipe == "minimise" and self.start == "cold")
