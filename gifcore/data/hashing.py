"""Content hashes of files; each file is read once as long as it does not change."""

import gzip
import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

_BLOCK = 1 << 20


def sha256_of(paths: Iterable[Path]) -> str:
    """Hex sha256 over the contents of the files in order; gzip files count unpacked.

    So the same data have the same hash however they were packed.

    Raises:
        OSError: if a file cannot be read.
    """
    digests = []
    for path in paths:
        status = path.stat()
        digests.append(_one(str(path.resolve()), status.st_mtime_ns, status.st_size))
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


@lru_cache(maxsize=256)
def _one(path: str, _modified: int, _size: int) -> str:
    digest = hashlib.sha256()
    with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
