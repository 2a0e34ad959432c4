"""Training a model of the registry: plain SGD on the objective the influence methods assume.

Objective: mean cross-entropy + (weight_decay / 2) ||theta||^2 over all parameters. No augmentation
and no dropout, so that the trained parameters are near a stationary point of exactly that.
"""

import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from gifcore.checkpoints import Checkpoint, as_bytes
from gifcore.data.backdoor import Backdoor
from gifcore.data.dataset import SPLITS, Data, Split
from gifcore.data.noise import Noise
from gifcore.errors import GifError
from gifcore.models import build
from gifcore.models.bundle import checkpoints_beside

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]  # done, total, note
_EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Settings:
    """The hyper-parameters of a training run; all of them are on the card."""

    seed: int = 0
    epochs: int = 30
    batch_size: int = 128
    lr: float = 0.05  # at the start; falls to 0 along a cosine over the epochs
    momentum: float = 0.9
    weight_decay: float = 5e-4  # wd of mean loss + wd/2 ||theta||^2
    patience: int = 8  # epochs without a better validation loss before stopping
    checkpoints: int = 0  # kept for tracin, evenly over the epochs; 0: none

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            GifError: naming the setting, its value and what is allowed.
        """
        for name in ("epochs", "batch_size", "patience"):
            if getattr(self, name) < 1:
                raise GifError(f"{name} must be 1 or more, found {getattr(self, name)}.")
        if not 0 <= self.checkpoints <= self.epochs:
            raise GifError(
                f"checkpoints must be 0 or at most the epochs ({self.epochs}), found "
                f"{self.checkpoints}."
            )
        if not 0 < self.lr < math.inf:
            raise GifError(f"lr must be a positive number, found {self.lr}.")
        if not 0 <= self.momentum < 1:
            raise GifError(f"momentum must be from 0 to below 1, found {self.momentum}.")
        if not 0 <= self.weight_decay < math.inf:
            raise GifError(f"weight_decay must be 0 or more, found {self.weight_decay}.")


@dataclass(frozen=True)
class TrainingResult:
    """Where the checkpoint is and how good it is."""

    checkpoint: Path  # .safetensors
    card: dict[str, Any]  # what was written beside it as .json
    accuracy: dict[str, float]  # split -> fraction right
    epochs: int  # epochs done
    best_epoch: int  # whose weights were kept, from 1
    seconds: float


def train(
    data: Data,
    model: str,
    *,
    seed: int = 0,
    epochs: int = 30,
    batch_size: int = 128,
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    patience: int = 8,
    checkpoints: int = 0,
    backdoor: Backdoor | None = None,
    noise: Noise | None = None,
    out: Path,
    progress: Progress | None = None,
    device: str = "cpu",
) -> TrainingResult:
    """Train, keep the weights of the lowest validation loss, save checkpoint and card.

    The same seed, threads and machine give the same weights. `out` is the .safetensors file; the
    card is the .json beside it. The test split is looked at once, at the end. Checkpoints, if any
    are asked for, lie beside it too. A backdoor or wrong labels are planted in the training split
    before, and the card names them.

    Raises:
        GifError: for an unknown model, an impossible setting or a loss that is not finite.
    """
    settings = Settings(seed, epochs, batch_size, lr, momentum, weight_decay, patience, checkpoints)
    return train_with(
        data, model, settings, backdoor=backdoor, noise=noise, out=out, progress=progress,
        device=device,
    )  # fmt: skip


def train_with(
    data: Data,
    model: str,
    settings: Settings,
    *,
    backdoor: Backdoor | None = None,
    noise: Noise | None = None,
    out: Path,
    progress: Progress | None = None,
    device: str = "cpu",
) -> TrainingResult:
    """train() with its settings in one piece.

    Raises:
        GifError: as train().
    """
    out = Path(out)
    out = out.with_name(out.name.removesuffix(".safetensors") + ".safetensors")
    if backdoor is not None:
        data = backdoor.plant(data)[0]
    if noise is not None:
        data = noise.plant(data)[0]
    started = time.perf_counter()
    net = _fresh(data, model, settings.seed).to(device)
    tensors = {name: _tensors(data.split(name), device) for name in SPLITS}
    done, best_epoch, points = _fit(net, tensors, settings, progress or _silent)
    accuracy = {name: _evaluate(net, *tensors[name])[1] for name in SPLITS}
    seconds = time.perf_counter() - started
    card: dict[str, Any] = {
        "model": model,
        "shape": list(data.shape),
        "n_classes": data.n_classes,
        "parameters": sum(p.numel() for p in net.parameters()),
        "data": {"name": data.name, "hash": data.hash},
        "settings": asdict(settings),
        "weight_decay": settings.weight_decay,
        "accuracy": accuracy,
        "epochs": done,
        "best_epoch": best_epoch,
        "seconds": round(seconds, 2),
        "versions": {"torch": torch.__version__},
        "threads": torch.get_num_threads(),
        "checkpoints": len(points),
    }
    if backdoor is not None:
        card["backdoor"] = asdict(backdoor)
    if noise is not None:
        card["noise"] = asdict(noise)
    _save(net, card, points, out)
    return TrainingResult(out, card, accuracy, done, best_epoch, seconds)


def _fresh(data: Data, model: str, seed: int) -> nn.Module:
    """A model initialised from the seed; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(model, data.shape, data.n_classes)


def _tensors(split: Split, device: str) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(split.inputs()).to(device), torch.from_numpy(split.y).to(device)


def _fit(
    net: nn.Module,
    tensors: dict[str, tuple[Tensor, Tensor]],
    settings: Settings,
    progress: Progress,
) -> tuple[int, int, list[Checkpoint]]:
    """Fit with early stopping; leaves the best weights in net.

    Returns:
        (epochs done, best epoch, checkpoints). A checkpoint stands for the steps since the one
        before; none is kept after the best epoch.
    """
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
    generator = torch.Generator().manual_seed(settings.seed)
    best_loss, best_epoch = math.inf, 0
    best = _copy(net)
    points: list[tuple[int, Checkpoint]] = []
    kept = {
        round((i + 1) * settings.epochs / settings.checkpoints) for i in range(settings.checkpoints)
    }
    steps, epoch = 0, 0
    for epoch in range(1, settings.epochs + 1):
        order = torch.randperm(len(tensors["train"][1]), generator=generator)
        rate = optimizer.param_groups[0]["lr"] / (1 - settings.momentum)
        steps += _one_epoch(net, tensors["train"], order.split(settings.batch_size), optimizer)
        schedule.step()
        if epoch in kept:
            theta = nn.utils.parameters_to_vector(net.parameters()).detach().clone()
            points.append((epoch, Checkpoint(theta, rate, steps)))
            steps = 0
        loss, accuracy = _evaluate(net, *tensors["validation"])
        if not math.isfinite(loss):
            raise GifError(
                f"The loss is no longer a finite number in epoch {epoch}: lower the learning rate"
                f" (lr, now {settings.lr}) or check the data."
            )
        if loss < best_loss:
            best_loss, best_epoch, best = loss, epoch, _copy(net)
        progress(epoch, settings.epochs, f"validation loss {loss:.3f}, accuracy {accuracy:.1%}")
        if epoch - best_epoch >= settings.patience:
            break
    net.load_state_dict(best)
    net.eval()
    return epoch, best_epoch, [point for at, point in points if at <= best_epoch]


def _one_epoch(
    net: nn.Module,
    train: tuple[Tensor, Tensor],  # (n, C, H, W), (n,)
    batches: Sequence[Tensor],  # indices, on the CPU
    optimizer: torch.optim.Optimizer,
) -> int:
    """Take one step a batch; returns the number of steps."""
    net.train()
    x, y = train
    for batch in batches:
        at = batch.to(y.device)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(net(x[at]), y[at]).backward()
        optimizer.step()
    return len(batches)


@torch.no_grad()
def _evaluate(net: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Mean cross-entropy (nats) and the fraction right."""
    net.eval()
    loss, right = 0.0, 0
    for inputs, labels in zip(x.split(_EVALUATION_BATCH), y.split(_EVALUATION_BATCH), strict=True):
        outputs = net(inputs)
        loss += float(F.cross_entropy(outputs, labels, reduction="sum"))
        right += int((outputs.argmax(1) == labels).sum())
    return loss / len(y), right / len(y)


def _copy(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}


def _save(net: nn.Module, card: dict[str, Any], points: list[Checkpoint], out: Path) -> None:
    """Card, checkpoints, weights under temporary names, then renamed: nothing half-written stays.

    Raises:
        GifError: if the folder cannot be written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".saving-") as folder:
            weights, note = Path(folder) / "weights", Path(folder) / "card"
            weights.write_bytes(save(state))
            note.write_text(text, encoding="utf-8")
            beside = checkpoints_beside(out)
            if points:
                kept = Path(folder) / "checkpoints"
                kept.write_bytes(as_bytes(points))
                os.replace(kept, beside)
            else:
                beside.unlink(missing_ok=True)  # of an earlier training
            os.replace(note, out.with_suffix(".json"))
            os.replace(weights, out)
    except OSError as error:
        raise GifError(
            f"The checkpoint could not be written to {out.parent} ({error.strerror or error})."
        ) from error
    log.info("saved %s", out)


def _silent(_done: int, _total: int, _note: str) -> None:
    """No progress wanted."""
