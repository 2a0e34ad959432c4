"""What a query asks about: the loss of its samples, or any number that the outputs give.

A target maps (outputs, batch) to one number a sample, (b,). Scores are its predicted change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gifcore.errors import GifError
from gifcore.problem import Loss, label_of


@dataclass(frozen=True)
class Target:
    """A number a sample, with what its scores are measured in.

    Args:
        function: (outputs, batch) -> (b,); None: the problem's loss.
        unit: of the target and so of its scores; empty where there is none.
        better_high: is a higher target a better answer? Then negative scores are helpful.
    """

    name: str
    function: Loss | None
    unit: str = ""
    better_high: bool = False

    def of(self, loss: Loss) -> Loss:
        """Return the function, with one number per sample checked; of the loss, the loss itself."""
        function, name = self.function, self.name
        if function is None:
            return loss

        def checked(outputs: Tensor, batch: Any) -> Tensor:
            values = function(outputs, batch)
            if not isinstance(values, Tensor) or values.shape != (len(outputs),):
                got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
                raise GifError(
                    f"The target '{name}' returned {got}; return one number per sample, shape "
                    f"({len(outputs)},)."
                )
            if not values.requires_grad:
                raise independent(name)
            return values

        return checked


def as_loss(target: Target) -> Target:
    """Return the target as a loss: minus it where higher is better; lower is better then.

    Of such a one positive scores are helpful: the sample's removal makes the answer worse.
    """
    function = target.function
    if function is None or not target.better_high:
        return target
    return replace(target, function=lambda o, batch: -function(o, batch), better_high=False)


def independent(name: str) -> GifError:
    """Return the error of a target that no change of the parameters changes."""
    return GifError(
        f"The target '{name}' does not depend on the parameters: its gradient is zero on every "
        "query; return a number that is computed from the model's outputs."
    )


def logit(outputs: Tensor, batch: Any) -> Tensor:
    """Return the output of the label's class, (b,)."""
    return _classes(outputs).gather(1, _labels(outputs, batch))[:, 0]


def margin(outputs: Tensor, batch: Any) -> Tensor:
    """Return the log odds of the label, log p / (1 - p), (b,)."""
    labels = _labels(_classes(outputs), batch)
    mine = one_hot(labels[:, 0], outputs.shape[1]).bool()
    others = outputs.masked_fill(mine, -torch.inf).logsumexp(dim=1)
    return outputs.gather(1, labels)[:, 0] - others


def probability(outputs: Tensor, batch: Any) -> Tensor:
    """Return the softmax probability of the label, (b,)."""
    return _classes(outputs).softmax(dim=1).gather(1, _labels(outputs, batch))[:, 0]


def _classes(outputs: Tensor) -> Tensor:
    if outputs.dim() != 2 or outputs.shape[1] < 2:
        raise GifError(
            f"This target is for outputs of (batch, classes), not {tuple(outputs.shape)}; give a "
            "function of one's own."
        )
    return outputs


def _labels(outputs: Tensor, batch: Any) -> Tensor:
    labels = label_of(batch)
    if labels.dim() != 1 or labels.dtype not in (torch.int64, torch.int32):
        raise GifError("This target is for samples with one class each; give a function.")
    if bool((labels < 0).any()) or int(labels.max()) >= outputs.shape[1]:
        raise GifError(f"A label is none of the {outputs.shape[1]} classes of the outputs.")
    return labels.long()[:, None]


LOSS = Target("loss", None, "nats")

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        LOSS,
        Target("logit", logit, "logits", better_high=True),
        Target("margin", margin, "log odds", better_high=True),
        Target("probability", probability, "probability", better_high=True),
    )
}


def target_of(given: str | Target | Callable[[Tensor, Any], Tensor] | None) -> Target:
    """Return the target that is named or given; None: the loss.

    A function of one's own counts as better when it is lower, as a loss is.

    Raises:
        GifError: an unknown name, or what is no function.
    """
    if given is None:
        return LOSS
    if isinstance(given, Target):
        return given
    if isinstance(given, str) and given in TARGETS:
        return TARGETS[given]
    if isinstance(given, str) or not callable(given):
        names = ", ".join(TARGETS)
        raise GifError(f"Unknown target {given!r:.40}; choose one of {names}, or give a function.")
    return Target(getattr(given, "__name__", type(given).__name__), given)
