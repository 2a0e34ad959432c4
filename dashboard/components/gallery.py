"""Pictures of samples: from the data set, else from the record, else a grey card with a number."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image, ImageDraw

from dashboard import cache
from dashboard.state import Context
from gifcore.change_section import BackdoorSection
from gifcore.data.backdoor import Backdoor
from gifcore.data.noise import Noise

SIDE = 112  # 28 pixels four times
WITHIN = 16_000  # bytes of a picture that is sent with its page


@dataclass(frozen=True)
class Pictures:
    """Where the images and labels of one record come from."""

    data: Any | None  # the data set the record was made from, None if it is gone
    kept: dict[str, np.ndarray]  # the thumbnails of the record
    classes: list[str]

    def png(self, split: str, index: int, side: int = SIDE) -> bytes:
        """Return one sample as PNG, a grey card with its number if there is no picture."""
        image = self._image(split, index)
        return placeholder(index, side) if image is None else cache.png(image, side)

    def uri(self, split: str, index: int, side: int = SIDE) -> str:
        """Return one sample as an address that holds it, a grey card without a picture."""
        image = self._image(split, index)
        return data_uri(placeholder(index, SIDE) if image is None else cache.small(image, side))

    def query_png(self, query: dict[str, Any], side: int = SIDE) -> bytes:
        """Return the test image of a query as PNG; of a group its first four, two by two."""
        if not query.get("group"):
            return self.png("test", query["index"], side)
        first = query["group"]["images"][:4]
        images = [self._image("test", index) for index in first]
        known = [image for image in images if image is not None]
        if not known:
            return placeholder(first[0], side)
        known += [np.zeros_like(known[0])] * (4 - len(known))
        if known[0].ndim == 3 and known[0].shape[0] in (1, 3):
            known = [np.moveaxis(image, 0, -1) for image in known]
        rows = [np.concatenate(known[i : i + 2], axis=1) for i in (0, 2)]
        return cache.png(np.concatenate(rows, axis=0), side)

    def _image(self, split: str, index: int) -> np.ndarray | None:
        if self.data is not None:
            return self.data.images(split, [index])[0]
        places = np.flatnonzero(self.kept.get(f"{split}.index", np.empty(0)) == index)
        return self.kept[f"{split}.images"][places[0]] if len(places) else None

    def label(self, split: str, index: int) -> str:
        """Return the class name of a sample, "" if the data set is gone."""
        labels = self.labels(split)
        return "" if labels is None else self.classes[int(labels[index])]

    def labels(self, split: str) -> np.ndarray | None:
        """Return the labels of a split, None if the data set is gone."""
        return None if self.data is None else np.asarray(self.data.split(split).y)


def pictures(context: Context) -> Pictures:
    """Return the picture source of the record shown."""
    info = context.info["data"]
    by_study = planted(context)
    if by_study is not None:
        found = cache.poisoned(info["source"], info["hash"], by_study)
    else:
        found = cache.data(info["source"], info["hash"])
    kept = cache.thumbnails(context.shown.path) if found is None else {}
    return Pictures(found, kept, info["classes"])


def planted(context: Context) -> Backdoor | Noise | None:
    """Return what the record's study planted in the training split: its images or labels."""
    study = cache.study(context.shown.path)
    if study is None:
        return None
    if isinstance(study.change, BackdoorSection):
        return study.change.backdoor
    return study.mislabel.noise


def missing_data_note(source: Pictures, name: str) -> None:
    """Say it where the data set is gone and only the record's thumbnails are left."""
    if source.data is None:
        st.info(
            f"The data set “{name}” this study was made from is not here, or is another one now: "
            "pictures kept in the record are shown, other samples are grey cards with their "
            "number, and training labels are unknown.",
            icon=":material/image_not_supported:",
        )


def within(picture: bytes) -> str | bytes:
    """Return the address of a small picture that holds it: the page brings it along.

    Browsers would ask for each of them, and the server answer, longer than the page itself takes.
    """
    return data_uri(picture) if len(picture) <= WITHIN else picture


def data_uri(picture: bytes) -> str:
    """Return a PNG or JPEG as a data URI, for the image column of a table."""
    kind = "jpeg" if picture.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode()


@st.cache_data(max_entries=512, show_spinner=False)
def placeholder(index: int, side: int) -> bytes:
    """Return a grey card with the sample's number."""
    card = Image.new("L", (side, side), 150)
    ImageDraw.Draw(card).text((side / 2, side / 2), f"#{index}", fill=30, anchor="mm")
    buffer = io.BytesIO()
    card.save(buffer, format="PNG")
    return buffer.getvalue()
