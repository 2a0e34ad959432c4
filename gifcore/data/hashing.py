"""Content hashes of files; each file is read once as long as it does not change."""

import gzip
import hashlib
import zlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from gifcore.errors import GifError

_BLOCK = 1 << 20


def sha256_of(paths: Iterable[Path]) -> str:
    """Hex sha256 over the contents of the files in order; gzip files count unpacked.

    So the same data have the same hash however they were packed.

    Raises:
        GifError: if a file cannot be read.
    """
    digests = [_hash_now(path) for path in paths]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def _hash_now(path: Path) -> str:
    try:
        status = path.stat()
        return _one(str(path.resolve()), status.st_mtime_ns, status.st_size)
    except (OSError, EOFError, zlib.error) as error:
        raise GifError(f"{path} cannot be read ({error}); check or replace the file.") from error


@lru_cache(maxsize=256)
def _one(path: str, _modified: int, _size: int) -> str:
    digest = hashlib.sha256()
    with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
