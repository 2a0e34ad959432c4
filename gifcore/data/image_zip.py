"""A zip with one folder of pictures a class; nothing is unpacked to disk, limits come first.

[anything/]CLASS/….png                  splits are drawn
[anything/]train/CLASS/….png            and validation/…, test/…: the file's own splits
"""

import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from gifcore.data import limits
from gifcore.data.foreign import ALL, SPLIT_NAMES, Foreign, Progress, Reading
from gifcore.data.names import apart
from gifcore.errors import GifError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")  # no other decoder is ever tried
_UNREADABLE = (
    OSError,  # Pillow's own errors are of this kind
    ValueError,
    EOFError,
    SyntaxError,  # what Pillow raises for a damaged PNG
    RuntimeError,  # an encrypted archive
    NotImplementedError,  # an unknown compression
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Entry:
    """One picture in the zip."""

    info: zipfile.ZipInfo
    part: str  # train, validation, test or ALL
    label: str  # the name of its class folder


def read_image_zip(path: Path, reading: Reading, progress: Progress) -> Foreign:
    """Return the pictures of a zip of class folders as bytes, (n, C, H, W).

    Raises:
        GifError: naming the entry that is not acceptable, and why.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries, notes = _entries(archive, path.name)
            channels, size = _form(archive, entries, reading, path.name)
            return _decode(archive, entries, channels, size, (*notes,), reading, progress)
    except _UNREADABLE as error:
        raise GifError(
            f"{path.name} is not a zip of pictures that can be read "
            f"({(str(error).splitlines() or [type(error).__name__])[0].rstrip('.')[:120]}); make it"
            " again."
        ) from error


# --- what there is, from the directory of the zip alone ------------------------------------------


def _entries(archive: zipfile.ZipFile, where: str) -> tuple[list[Entry], list[str]]:
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > limits.MAX_FILES:
        raise GifError(f"{where} has {len(infos):,} files; at most {limits.MAX_FILES:,} are read.")
    for info in infos:
        _refuse_name(info, where)
    seen = [info for info in infos if not _is_clutter(info.filename)]
    pictures = [info for info in seen if info.filename.lower().endswith(SUFFIXES)]
    if not pictures:
        raise GifError(
            f"{where} holds no pictures ({', '.join(SUFFIXES)}); put one folder a class into it."
        )
    _refuse_sizes(pictures, where)
    notes = []
    if len(pictures) < len(seen):
        other = next(info.filename for info in seen if info not in pictures)
        notes.append(
            f"{len(seen) - len(pictures):,} files that are no pictures were left out, such as "
            f"{other}."
        )
    inner, top = _without_top([PurePosixPath(info.filename).parts for info in pictures])
    if top:
        notes.append(f"The outer folder {'/'.join(top)} was left out of the names.")
    return _sorted_into_classes(pictures, inner, where), notes


def _refuse_name(info: zipfile.ZipInfo, where: str) -> None:
    """Refuse names that lead out of a folder, and links: nothing of this zip is to be trusted."""
    name = info.filename
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or (parts[0] or " ")[-1] == ":":
        raise GifError(
            f"{where}: the name '{name}' leads out of the zip (absolute, with '..' or with a "
            "backslash); make the zip again from inside its folder."
        )
    if stat.S_ISLNK(info.external_attr >> 16):
        raise GifError(f"{where}: '{name}' is a link, not a file; put the file itself in.")
    if info.flag_bits & 1:
        raise GifError(f"{where}: '{name}' is encrypted; make the zip without a password.")


def _is_clutter(name: str) -> bool:
    parts = name.split("/")
    return parts[0] == "__MACOSX" or any(p.startswith(".") or p == "Thumbs.db" for p in parts)


def _refuse_sizes(pictures: Sequence[zipfile.ZipInfo], where: str) -> None:
    for info in pictures:
        if info.file_size > limits.MAX_FILE_BYTES:
            raise GifError(
                f"{where}: '{info.filename}' unpacks to {info.file_size / 1e6:,.0f} MB; at most "
                f"{limits.MAX_FILE_BYTES / 1e6:,.0f} MB a picture are read."
            )
    total = sum(info.file_size for info in pictures)
    if total > limits.MAX_BYTES:
        raise GifError(
            f"{where} unpacks to {total / 1e9:.1f} GB; the limit is"
            f" {limits.MAX_BYTES / 1e9:.0f} GB."
        )


def _without_top(paths: list[tuple[str, ...]]) -> tuple[list[tuple[str, ...]], list[str]]:
    """Leave out folders that hold everything, unless they are a split or the class itself."""
    top = []
    while (
        len({path[0] for path in paths}) == 1
        and min(map(len, paths)) > 2
        and paths[0][0].lower() not in SPLIT_NAMES
    ):
        top.append(paths[0][0])
        paths = [path[1:] for path in paths]
    return paths, top


def _sorted_into_classes(
    pictures: Sequence[zipfile.ZipInfo], paths: list[tuple[str, ...]], where: str
) -> list[Entry]:
    split = [path[0].lower() in SPLIT_NAMES for path in paths]
    if any(split) and not all(split):
        other = paths[split.index(False)][0]
        raise GifError(
            f"{where} has '{other}' beside a folder train, validation or test; give either only "
            "these on top, or only class folders."
        )
    entries = []
    for info, path in zip(pictures, paths, strict=True):
        part, inner = (SPLIT_NAMES[path[0].lower()], path[1:]) if all(split) else (ALL, path)
        if len(inner) < 2:
            raise GifError(
                f"{where}: '{info.filename}' lies in no class folder; put it into a folder named "
                "after its class."
            )
        entries.append(Entry(info, part, inner[0]))
    _refuse_classes(entries, where)
    return sorted(entries, key=lambda entry: entry.info.filename)


def _refuse_classes(entries: Sequence[Entry], where: str) -> None:
    names = {
        part: {e.label for e in entries if e.part == part} for part in {e.part for e in entries}
    }
    known = names.get("train") or set().union(*names.values())
    for part, labels in sorted(names.items()):
        if new := sorted(labels - known):
            raise GifError(
                f"{where}: the class folder '{part}/{new[0]}' has no counterpart in train; remove "
                "it, or add that class to train."
            )
    if not 2 <= len(known) <= limits.MAX_CLASSES:
        raise GifError(
            f"{where} has {len(known):,} class folders ('{sorted(known)[0]}' …); 2 to "
            f"{limits.MAX_CLASSES:,} are needed."
        )


# --- pictures ------------------------------------------------------------------------------------


def _form(
    archive: zipfile.ZipFile, entries: Sequence[Entry], reading: Reading, where: str
) -> tuple[int, tuple[int, int]]:
    """Return (channels, (H, W)) of all pictures, from their headers alone."""
    grey, size = True, reading.size
    for entry in entries:
        name = entry.info.filename
        with archive.open(entry.info) as file, _opened(file, name, where) as picture:
            width, height = picture.size
            grey = grey and picture.mode in ("1", "L")
            if picture.mode.startswith(("I", "F")):
                raise GifError(
                    f"{where}: '{name}' has more than 8 bits a pixel ({picture.mode}); save it "
                    "with 8, or give the data as NPZ."
                )
        if size is None:
            size = (height, width)
        if reading.size is None and (height, width) != size:
            raise GifError(
                f"{where}: '{name}' is {height} x {width} pixels (height x width), the first "
                f"picture {size[0]} x {size[1]}; choose one size that all are scaled to."
            )
    assert size is not None
    channels = reading.channels or (1 if grey else 3)
    needed = len(entries) * channels * size[0] * size[1] * (4 if reading.mean else 1)
    if needed > limits.MAX_BYTES:
        raise GifError(
            f"{where}: {len(entries):,} pictures of {channels} x {size[0]} x {size[1]} take "
            f"{needed / 1e9:.1f} GB; the limit is {limits.MAX_BYTES / 1e9:.0f} GB: choose a smaller"
            " size."
        )
    return channels, size


def _opened(file: object, name: str, where: str) -> Image.Image:
    """Open a picture of an allowed format; its pixels are counted before any is decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours is the lower limit
        try:
            picture = Image.open(file, formats=FORMATS)  # type: ignore[arg-type]
        except _UNREADABLE as error:
            raise GifError(
                f"{where}: '{name}' is not a picture of the kinds {', '.join(FORMATS)} that can be "
                "read; replace or remove it."
            ) from error
    if picture.width * picture.height > limits.MAX_PIXELS:
        raise GifError(
            f"{where}: '{name}' has {picture.width} x {picture.height} pixels; at most "
            f"{limits.MAX_PIXELS:,} in all are decoded."
        )
    return picture


def _decode(
    archive: zipfile.ZipFile,
    entries: Sequence[Entry],
    channels: int,
    size: tuple[int, int],
    notes: tuple[str, ...],
    reading: Reading,
    progress: Progress,
) -> Foreign:
    names = sorted({entry.label for entry in entries})
    x = np.empty((len(entries), channels, *size), dtype=np.uint8)
    where = Path(archive.filename or "").name
    for row, entry in enumerate(entries):
        if row % 200 == 0:
            progress(row, len(entries), f"reading pictures, {row:,} of {len(entries):,}")
        with archive.open(entry.info) as file, _opened(file, entry.info.filename, where) as picture:
            x[row] = _pixels(picture, channels, size, entry.info.filename, where)
    y = np.array([names.index(entry.label) for entry in entries], dtype=np.int64)
    part = np.array([entry.part for entry in entries])
    if reading.size is not None:
        notes = (*notes, f"Pictures are scaled to {size[0]} x {size[1]} (bilinear).")
    return Foreign(
        {name: (x[part == name], y[part == name]) for name in sorted(set(part.tolist()))},
        apart(names),
        notes,
    )


def _pixels(
    picture: Image.Image, channels: int, size: tuple[int, int], name: str, where: str
) -> np.ndarray:
    """Return (C, H, W) bytes: colour as torchvision's ImageFolder makes it, alpha left out."""
    try:
        plain = picture.convert("L" if channels == 1 else "RGB")
    except _UNREADABLE as error:
        raise GifError(f"{where}: '{name}' is damaged; replace or remove it.") from error
    if plain.size != (size[1], size[0]):
        plain = plain.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(plain, dtype=np.uint8).reshape(*size, channels).transpose(2, 0, 1)
