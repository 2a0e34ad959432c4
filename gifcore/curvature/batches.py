"""What every curvature shares: batches side by side, a memory count, forward mode."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from gifcore.problem import Problem

Item = TypeVar("Item")

BATCH_SIZE = 128
MEMORY_MB = 512


class SideBySide:
    """Runs one function on many items, a thread each, in threads that stay from call to call.

    On a CPU that scales better than many threads in one operation, and a thread that stays keeps
    the buffers that its operations need. They end with this object. The order of the results does
    not depend on timing.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._workers = 0

    def __call__(
        self, one: Callable[[Item], Tensor], items: Sequence[Item], device: torch.device
    ) -> list[Tensor]:
        """Return one(item) of every item, in order."""
        threads = torch.get_num_threads()
        workers = min(threads, len(items))
        if workers < 2 or device.type != "cpu":
            return [one(item) for item in items]
        if self._pool is None or self._workers != workers:
            self._pool, self._workers = ThreadPoolExecutor(workers), workers

        def alone(item: Item) -> Tensor:
            torch.set_num_threads(threads // workers)  # some libraries have one number for all
            return one(item)

        try:
            return list(self._pool.map(alone, items))
        finally:
            torch.set_num_threads(threads)


class SavedBytes:
    """Counts the distinct storage that autograd saves for backward."""

    def __init__(self) -> None:
        self.bytes = 0
        self._seen: set[int] = set()

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor.detach()  # the tensor itself would be a cycle that is never freed

    def unpack(self, tensor: Tensor) -> Tensor:
        return tensor


def flat(
    problem: Problem, values: Iterable[Tensor | None], parameters: dict[str, Tensor]
) -> Tensor:
    """Return one tensor a parameter as a vector (p,), without its graph; None counts as 0."""
    named = {
        name: torch.zeros_like(leaf) if value is None else value
        for (name, leaf), value in zip(parameters.items(), values, strict=True)
    }
    return problem.space.flatten(named).detach()


@cache
def load_forward_mode() -> None:
    """Let torch load its forward-mode rules; as it does, it warns of its own deprecated calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        with forward_ad.dual_level():
            forward_ad.make_dual(torch.zeros(1), torch.zeros(1))
