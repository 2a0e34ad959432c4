"""The questions of the page Own model and data: which file, how to read it, which model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import settings
from dashboard.components import messages, uploads
from dashboard.texts import text
from gifcore import models
from gifcore.data import DATASETS, table
from gifcore.data.foreign import Reading
from gifcore.errors import GifError
from gifcore.models import MODELS, bundled
from gifcore.models.torchvision_names import NAMES, PREFIX

OWN = "own"
DATA = ("npz", "zip", "csv", "parquet")
WEIGHTS = ("safetensors", "pt", "pth")
IMAGENET = ("0.485, 0.456, 0.406", "0.229, 0.224, 0.225")


@dataclass(frozen=True)
class Question:
    """What the engine is to be asked, and of which files.

    Every argument is of the form --name=value: a value, such as the name of a column in somebody's
    file, can never be an option of its own.
    """

    arguments: tuple[str, ...]
    files: tuple[Path, ...]
    asked: dict[str, Any] = field(default_factory=dict)  # what a refreshed page needs to know


# --- data ----------------------------------------------------------------------------------------


def data_question() -> Question | None:
    """Draw the choice of the data and how they are read; None while something is missing."""
    left, right = st.columns([1, 2], gap="large")
    with left:
        source = st.selectbox(
            "Data",
            [OWN, *DATASETS],
            format_func=lambda name: DATASETS[name].title if name in DATASETS else "My own file",
            key="own_source",
            persist_state="session",
        )
    if source != OWN:
        left.caption(DATASETS[source].text)
        return Question((f"--data={source}",), (), {"name": DATASETS[source].title})
    with right:
        path = uploads.pick("own_data", "Data file", DATA)
    with st.expander("Which files are understood?"):
        st.markdown(text("own_formats"))
    if path is None:
        return None
    options = _options(Path(path))
    if options is None:
        return None
    return Question((f"--data={path}", *options), (Path(path),), {"name": Path(path).name})


def _options(path: Path) -> list[str] | None:
    """Draw how a file of this kind is read; None if that cannot be asked."""
    suffix = path.suffix.lower()
    if suffix in table.SUFFIXES:
        return _table_options(path)
    options: list[str] = []
    if suffix == ".zip":
        options += [*_picture_options(), *_splits()]
    return options + _normalisation()


def _table_options(path: Path) -> list[str] | None:
    try:
        columns = table.columns_of(path)
    except GifError as problem:
        messages.error(problem)
        return None
    left, right = st.columns(2, gap="large")
    known = table.guessed(columns)
    label = left.selectbox(
        "Label column",
        columns,
        index=columns.index(known) if known else None,
        placeholder="Choose the column to predict",
        key=f"own_label_{path.parent.name}",
        help="Words or whole numbers, one class each.",
    )
    drop = right.multiselect(
        "Columns that are no inputs",
        [name for name in columns if name != label],
        placeholder="None",
        key=f"own_drop_{path.parent.name}",
        help="Names, numbers of rows and other columns that the model does not see.",
    )
    if label is None:
        return None
    if any("," in name for name in drop):
        st.error("A column to be left out has a comma in its name; rename it.")
        return None
    return [f"--label={label}", *([f"--drop={','.join(drop)}"] if drop else []), *_splits()]


def _picture_options() -> list[str]:
    left, right = st.columns(2, gap="large")
    size = left.text_input(
        "Scale to (height x width)",
        key="own_size",
        placeholder="as they are",
        help="Needed if the pictures have different sizes, such as 32x32. Scaling is bilinear.",
        persist_state="session",
    )
    channels = right.selectbox(
        "Colour",
        ["As they are", "Grey (1 channel)", "Colour (3 channels)"],
        key="own_channels",
        help="As they are: grey if every picture is, else colour.",
        persist_state="session",
    )
    options = [f"--size={size.strip()}"] if size.strip() else []
    if channels != "As they are":
        options.append(f"--channels={1 if channels.startswith('Grey') else 3}")
    return options


def _splits() -> list[str]:
    """Draw how validation and test are drawn, for files that name no splits."""
    with st.expander("If the file names no splits"):
        columns = st.columns(3, gap="large")
        parts = {"validation": columns[0], "test": columns[1]}
        first = Reading()
        shares = [
            column.number_input(
                f"Share for {name} [%]",
                1.0,
                90.0,
                100 * getattr(first, name),
                1.0,
                format="%g",
                key=f"own_share_{name}",
                help="Drawn with the class shares of the whole; both together stay below 100 %.",
                persist_state="session",
            )
            for name, column in parts.items()
        ]
        seed = columns[2].number_input(
            "Seed of the draw", 0, 2**31 - 1, key="own_seed", persist_state="session"
        )
    said = [f"--seed={seed}"] if seed else []
    if shares != [100 * first.validation, 100 * first.test]:
        said.append("--shares=" + ",".join(f"{share / 100:g}" for share in shares))
    return said


def _normalisation() -> list[str]:
    way = st.segmented_control(
        "Normalisation in training",
        ["None", "ImageNet", "By hand"],
        default="None",
        required=True,
        key="own_normalisation",
        help="Inputs are bytes / 255, or numbers as stored. If the model was trained on "
        "(x - mean) / std, say so here: with other inputs its answers are worth nothing.",
        persist_state="session",
    )
    if way == "None":
        return []
    if way == "ImageNet":
        return [f"--mean={IMAGENET[0]}", f"--std={IMAGENET[1]}"]
    left, right = st.columns(2, gap="large")
    mean = left.text_input("Mean of each channel", key="own_mean", placeholder="0.5, 0.5, 0.5")
    std = right.text_input("Std of each channel", key="own_std", placeholder="0.5, 0.5, 0.5")
    return [f"--mean={mean}", f"--std={std}"] if mean.strip() or std.strip() else []


# --- model ---------------------------------------------------------------------------------------


def model_names() -> list[str]:
    """Return every architecture that can be named here: ours, the plugins', torchvision's."""
    return [*MODELS, *settings.plugin_models(), *(PREFIX + name for name in NAMES)]


def model_question(data: dict[str, Any]) -> Question | None:
    """Draw the choice of the model for data that were understood; None while one is missing."""
    left, right = st.columns(2, gap="large")
    with left:
        name = st.selectbox(
            "Architecture",
            model_names(),
            format_func=models.title,
            key="own_model",
            help="Those that come with GIF Studio, those of this server's plugins, and the "
            "classifiers of torchvision; type to search.",
            persist_state="session",
        )
        shape = " x ".join(map(str, data["shape"]))
        built = f"Built for inputs of {shape} and {len(data['classes'])} classes."
        st.caption(f"{about(name)} {built}")
    with right:
        weights = _weights(name, data["source"])
    if weights == "":
        asked = {"name": f"{models.title(name)}, as it comes along"}
        return Question((f"--data={data['source']}", f"--model={name}"), (), asked)
    if weights is None:
        return None
    arguments = (f"--data={data['source']}", f"--model={name}", f"--weights={weights}")
    return Question(arguments, (Path(data["source"]), Path(weights)), {"name": Path(weights).name})


def about(name: str) -> str:
    """Return what an architecture is, in a line or two."""
    if name in MODELS:
        return MODELS[name].text
    if name.startswith(PREFIX):
        return (
            "As torchvision.models builds it, without weights of its own; for images that are not "
            "in colour its first convolution takes the channels there are."
        )
    return "From a plugin of this server."


def _weights(name: str, source: str) -> str | None:
    """Draw the choice of the checkpoint: "" is the one that comes along, None is none yet."""
    if bundled(name, source) is not None and not st.toggle(
        "Load my own weights instead of the ones that come with GIF Studio",
        key="own_other_weights",
        persist_state="session",
    ):
        return ""
    return uploads.pick("own_weights", "Weights", WEIGHTS)
