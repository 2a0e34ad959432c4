"""Retrained models on the disk: one file each, by content hash; safetensors, no pickle."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gifcore.errors import GifError
from gifcore.retraining.retrained import Retrained

THETA = "theta"
BUFFER = "buffer."
FIGURES = ("gradient_norm", "converged", "steps", "seconds")


class Damaged(Exception):  # noqa: N818 - found on the way, mended by training again
    """A kept model cannot be read."""


@dataclass(frozen=True)
class Cache:
    """A folder of retrained models; many processes may use it at once."""

    folder: Path

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def holds(self, key: str) -> bool:
        return self.path(key).is_file()

    def read(self, key: str) -> Retrained:
        """Return a kept model.

        Raises:
            Damaged: its file is no longer what was written.
        """
        try:
            with safe_open(self.path(key), framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                header = file.metadata()
            figures = json.loads(header["figures"])
            if header["key"] != key or header["sum"] != _sum(tensors, header["figures"]):
                raise Damaged(f"{self.path(key)} does not hold what was written.")
            buffers = {n.removeprefix(BUFFER): t for n, t in tensors.items() if n != THETA}
            return Retrained(
                tensors[THETA], **{n: figures[n] for n in FIGURES}, cached=True, buffers=buffers
            )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise Damaged(f"{self.path(key)} cannot be read ({error}).") from None

    def write(self, key: str, found: Retrained) -> None:
        """Keep a model; under a name of its own first, so that nothing half-written is read.

        Raises:
            GifError: the folder cannot be written.
        """
        tensors = {THETA: found.theta.detach().cpu().contiguous()}
        tensors |= {BUFFER + n: t.detach().cpu().contiguous() for n, t in found.buffers.items()}
        figures = json.dumps({name: getattr(found, name) for name in FIGURES})
        header = {"key": key, "figures": figures, "sum": _sum(tensors, figures)}
        temporary = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                dir=self.folder, prefix=".", suffix=".tmp", delete=False
            ) as file:
                temporary = Path(file.name)
                file.write(save(tensors, header))
            os.replace(temporary, self.path(key))
        except OSError as error:
            if temporary is not None:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
            raise GifError(
                f"A retrained model cannot be written to {self.folder} ({error.strerror or error})."
            ) from None


def _sum(tensors: dict[str, Tensor], figures: str) -> str:
    """Return a hash of all that is kept: a flipped bit of a number would not be seen otherwise."""
    whole = hashlib.sha256(figures.encode())
    for name in sorted(tensors):
        whole.update(name.encode())
        whole.update(save({name: tensors[name]}))
    return whole.hexdigest()
