"""The section [retrain] of a study: how many models are trained again, and how; no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic import model_validator as checked

from gifcore.change_section import Section, shown


class RetrainSection(Section):
    """Is the edit held against models that are really trained on the changed data?

    sgd trains as the checkpoint's card says, minimise goes to the minimum of the objective by
    L-BFGS (for small models), proximal asks how this very model would respond (PBRF).
    """

    seeds: int = Field(
        0,
        ge=0,
        le=100,
        title="Models to retrain (0: none)",
        description="So many models are really trained on the changed data, with the seeds 1, 2, "
        "…, and the edits are held against them. Each takes about as long as training the model "
        "did; they are kept, and other studies of the same change find them.",
    )
    recipe: Literal["sgd", "minimise", "proximal"] = Field(
        "sgd",
        title="How they are trained",
        description="What the edits are held against. Proximal and warm minimising draw nothing "
        "at random, so there is one model.",
        json_schema_extra=shown(when={"seeds": True}),
    )
    start: Literal["cold", "warm"] = Field(  # proximal is warm
        "cold",
        title="Start",
        description="Cold: from new weights. Warm: from the trained ones, nearer to them and "
        "cheaper, and perhaps with a trace of what was to be forgotten.",
        json_schema_extra=shown(when={"seeds": True, "recipe": ["sgd", "minimise"]}),
    )
    processes: int = Field(
        1,
        ge=1,
        le=256,
        title="Trained side by side",
        description="Processes of one thread each; more than the machine has cores gain nothing.",
        json_schema_extra=shown(when={"seeds": True}),
    )
    epochs: int | None = Field(
        None,
        ge=1,
        le=100_000,
        title="Epochs",
        description="Fewer are quicker, and no longer what the weights were trained with: the "
        "verdict says so if accuracy suffers.",
        json_schema_extra=shown(empty="as the card says", when={"seeds": True, "recipe": ["sgd"]}),
    )

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
