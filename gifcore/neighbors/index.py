"""A faiss index over the features of the training samples: built once, kept, checked on loading."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gifcore.data.hashing import sha256_of
from gifcore.errors import GifError
from gifcore.features import PASS_SIZE, features, refuse_layer
from gifcore.problem import Problem, Progress, fetch, inputs_of, silent
from gifcore.queries import Queries
from gifcore.record import write_atomically

KINDS = ("Flat", "IVF", "HNSW")
FLAT_UP_TO = 100_000  # samples; more are searched by lists, IVF
IVF_UP_TO = 1_000_000  # and beyond through a graph, HNSW
TRAINED_ON = 64  # features a list of IVF, for its k-means
PROBED = 8  # one in so many lists is searched
LINKS = 32  # of a sample in the graph of HNSW
TRIED = 200  # samples that are looked at to link one
SEARCHED = 256  # samples that a search looks at, or twice k


def kind_for(n: int) -> str:
    """Return the kind of index that suits n samples.

    >>> [kind_for(n) for n in (60_000, 100_001, 1_000_001)]
    ['Flat', 'IVF', 'HNSW']
    """
    return "Flat" if n <= FLAT_UP_TO else "IVF" if n <= IVF_UP_TO else "HNSW"


@dataclass(frozen=True)
class Card:
    """What an index is of; kept as JSON beside it."""

    kind: str
    n: int
    dim: int
    layer: str | None  # None: penultimate
    model: str  # sha256 of the parameters and buffers
    data: str  # sha256 of the inputs and positions
    file: str = ""  # sha256 of the index file


class NeighborIndex:
    """The training samples of a problem by their features, searched in Euclidean distance.

    Flat is exact; IVF searches the nearest eighth of about 4 sqrt(n) lists, HNSW a graph; both
    fall back to the exact search where they find fewer than was asked for.

    Memory: 4 n d bytes and, for HNSW, about 8 n LINKS more.
    """

    def __init__(self, faiss_index: Any, card: Card, problem: Problem) -> None:
        self.faiss_index, self.card = faiss_index, card
        self.positions, self.train = problem.positions, problem.train

    @classmethod
    def build(
        cls,
        problem: Problem,
        *,
        layer: str | None = None,
        kind: str | None = None,
        seed: int = 0,
        batch_size: int = PASS_SIZE,
        progress: Progress = silent,
    ) -> NeighborIndex:
        """Return the index of the problem's training samples.

        Args:
            layer: whose features, see `features`; None: penultimate.
            kind: a name of KINDS; None: what suits n (`kind_for`).
            seed: of the sample that the lists of IVF are drawn up from.

        Raises:
            GifError: an unknown kind or layer, or features that are not finite.

        Cost: one forward pass; IVF makes another one over the sample.
        """
        kind = kind_for(problem.n) if kind is None else kind
        if kind not in KINDS:
            raise GifError(f"Unknown kind of index '{kind}'; choose one of: {', '.join(KINDS)}.")
        refuse_layer(problem, layer)
        found, done = None, 0
        for part in features(problem, layer, batch_size=batch_size):
            if found is None:
                found = _empty(kind, problem, layer, part.shape[1], seed)
            with _one_thread():  # the graph of HNSW depends on the order of insertion
                found.add(_rows(part))
            done += len(part)
            progress(done, problem.n, "index")
        assert found is not None
        card = Card(kind, problem.n, found.d, layer, model_hash(problem), data_hash(problem))
        return cls(found, card, problem)

    def candidates(self, query_features: Tensor, k: int) -> Tensor:
        """Return the k nearest training samples of every query, nearest first, (m, k).

        Args:
            query_features: (m, d).

        Returns:
            Positions in the training set; equally near ones in the order of their positions.

        Raises:
            GifError: k below 1 or above n, no query, or features of another kind.
        """
        self._refuse(query_features, k)
        rows = [self._nearest(row[None], k) for row in _rows(query_features)]
        return self.positions[torch.from_numpy(np.stack(rows))]

    def query_features(self, problem: Problem, queries: Queries) -> Tensor:
        """Return the features of every query, (m, d): of a group the mean over its samples."""
        means = torch.zeros(len(queries.groups), self.card.dim, dtype=torch.float64)
        for row, group in enumerate(queries.groups):
            positions = torch.as_tensor(list(group), dtype=torch.long)
            for part in features(problem, self.card.layer, data=queries.data, indices=positions):
                means[row] += part.double().cpu().sum(dim=0) / len(positions)
        return means

    def refuse_other(self, problem: Problem) -> None:
        """Refuse a problem that the index is not of.

        Raises:
            GifError: another model or other training samples.

        Cost: the hash of p numbers; of the data too if they are another object.
        """
        _refuse_model(self.card, problem)
        if len(self.positions) != problem.n or not torch.equal(self.positions, problem.positions):
            raise GifError(_OTHER_DATA)
        if problem.train is not self.train:
            _refuse_data(self.card, problem)

    # --- on the disk ------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the index, and its card beside it as `path` with the ending .json.

        Raises:
            GifError: it cannot be written.
        """
        path = _index_path(path)
        content = _faiss().serialize_index(self.faiss_index).tobytes()
        card = asdict(self.card) | {"file": hashlib.sha256(content).hexdigest()}
        write_atomically(path, content)
        text = json.dumps(card, indent=2) + "\n"
        write_atomically(path.with_suffix(".json"), text.encode())

    @classmethod
    def load(cls, path: str | Path, problem: Problem) -> NeighborIndex:
        """Return a saved index, if it is of this problem.

        Raises:
            GifError: no index, a damaged one, or that of another model or other data.
        """
        path = _index_path(path)
        card = _read_card(path)
        _refuse_model(card, problem)
        _refuse_data(card, problem)
        if sha256_of([path]) != card.file:
            raise GifError(f"{path.name} is not the file its card was written for; build it again.")
        return cls(_faiss().read_index(str(path)), card, problem)

    # --- inside -----------------------------------------------------------------------------

    def _nearest(self, row: np.ndarray, k: int) -> np.ndarray:
        """Return the places of the k nearest of one row, sorted by distance, then place.

        One row at a time: faiss rounds differently when it takes many.
        """
        distances, places = self.faiss_index.search(row, k, params=self._effort(k))
        if (places < 0).any():
            distances, places = self._exact(row, k)
        order = np.lexsort((places[0], distances[0]))
        return places[0][order].astype(np.int64)

    def _effort(self, k: int) -> Any:
        if self.card.kind == "IVF":
            return _faiss().SearchParametersIVF(nprobe=math.ceil(self.faiss_index.nlist / PROBED))
        if self.card.kind == "HNSW":
            return _faiss().SearchParametersHNSW(efSearch=max(SEARCHED, 2 * k))
        return None

    def _exact(self, row: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        if self.card.kind == "IVF":
            everything = _faiss().SearchParametersIVF(nprobe=self.faiss_index.nlist)
            found = self.faiss_index.search(row, k, params=everything)
        else:
            found = _faiss().downcast_index(self.faiss_index.storage).search(row, k)
        return found

    def _refuse(self, query_features: Tensor, k: int) -> None:
        if not 1 <= k <= self.card.n:
            raise GifError(f"k is {k}; choose 1 … {self.card.n}, the number of training samples.")
        if query_features.dim() != 2 or query_features.shape[1] != self.card.dim:
            raise GifError(
                f"Query features have shape {tuple(query_features.shape)}; give one row of "
                f"{self.card.dim} numbers a query."
            )
        if len(query_features) == 0:
            raise GifError("There is no query; give the features of one or more.")


# --- hashes ---------------------------------------------------------------------------------------

_OTHER_DATA = "The index was built on other training samples; build it again."


def model_hash(problem: Problem) -> str:
    """Return the sha256 (hex) of the modules' kinds, the parameters and the buffers."""
    digest = hashlib.sha256()
    for name, module in problem.model.named_modules():
        digest.update(f"{name}:{type(module).__qualname__};".encode())
    for name, tensor in [("", problem.theta), *problem.buffers.items()]:
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def data_hash(problem: Problem) -> str:
    """Return the sha256 (hex) of the positions and the inputs there; labels have no part in it.

    Cost: one reading of the data.
    """
    digests: dict[str, Any] = {"positions": hashlib.sha256(_bytes(problem.positions))}
    for part in problem.positions.split(PASS_SIZE):
        for name, leaf in _leaves(inputs_of(fetch(problem.train, part, "cpu")), ""):
            if name not in digests:
                digests[name] = hashlib.sha256(f"{leaf.dtype}:{tuple(leaf.shape[1:])}".encode())
            digests[name].update(_bytes(leaf))
    both = "".join(f"{name}:{digest.hexdigest()};" for name, digest in sorted(digests.items()))
    return hashlib.sha256(both.encode()).hexdigest()


def _leaves(inputs: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a batch by name, without the labels of a dict."""
    if isinstance(inputs, Tensor):
        yield f"inputs{name}", inputs
    elif isinstance(inputs, dict):
        for key in sorted(inputs):
            if key != "labels":
                yield from _leaves(inputs[key], f"{name}.{key}")
    elif isinstance(inputs, list | tuple) and inputs and isinstance(inputs[0], str):
        yield f"inputs{name}", torch.tensor(list("\n".join(inputs).encode()), dtype=torch.uint8)
    elif isinstance(inputs, list | tuple):
        for place, inner in enumerate(inputs):
            yield from _leaves(inner, f"{name}.{place}")


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _refuse_model(card: Card, problem: Problem) -> None:
    if card.model != model_hash(problem):
        raise GifError("The index was built with another model or parameters; build it again.")


def _refuse_data(card: Card, problem: Problem) -> None:
    if card.n != problem.n or card.data != data_hash(problem):
        raise GifError(_OTHER_DATA)


# --- faiss and files ------------------------------------------------------------------------------


def _faiss() -> Any:
    """Return the library, which is loaded when it is needed and knows its types only in part."""
    import faiss

    return faiss


def _empty(kind: str, problem: Problem, layer: str | None, dim: int, seed: int) -> Any:
    """Return an index without samples; IVF with its lists drawn up."""
    if kind == "Flat":
        return _faiss().IndexFlatL2(dim)
    if kind == "HNSW":
        graph = _faiss().IndexHNSWFlat(dim, LINKS)
        graph.hnsw.efConstruction = TRIED
        return graph
    lists = max(1, min(int(4 * math.sqrt(problem.n)), problem.n // TRAINED_ON))
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(problem.n, generator=generator)[: lists * TRAINED_ON].sort().values
    sample = torch.cat(list(features(problem, layer, indices=problem.positions[drawn])))
    found = _faiss().IndexIVFFlat(_faiss().IndexFlatL2(dim), dim, lists)
    found.cp.seed = seed % 2**31
    with _one_thread():
        found.train(_rows(sample))
    return found


def _rows(features: Tensor) -> np.ndarray:
    """Return features as faiss takes them, (m, d) float32; refuse those that do not fit."""
    rows = np.ascontiguousarray(features.detach().cpu().to(torch.float32).numpy())
    if not np.isfinite(rows).all():
        raise GifError("Features hold NaN, infinity or numbers beyond 3e38; name another layer.")
    return rows


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let faiss work with one thread, so that what it builds does not depend on timing."""
    threads = _faiss().omp_get_max_threads()
    _faiss().omp_set_num_threads(1)
    try:
        yield
    finally:
        _faiss().omp_set_num_threads(threads)


def _index_path(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix == ".json":
        raise GifError(f"{path.name} is the name of a card; give the index another ending.")
    return path


def _read_card(path: Path) -> Card:
    beside = path.with_suffix(".json")
    try:
        return Card(**json.loads(beside.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise GifError(
            f"{path.name} has no card {beside.name} that can be read ({type(error).__name__}); "
            "build the index again."
        ) from error
