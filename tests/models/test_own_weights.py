"""Checkpoints from elsewhere: wrappers undone and told, sizes checked, nothing in them run."""

from __future__ import annotations

import json
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision import models as vision
from typer.testing import CliRunner

from gifcore.cli import app
from gifcore.errors import GifError
from gifcore.models import build, check_name, load_weights, plugins, title, weight_files
from gifcore.models.torchvision_names import AUXILIARY, NAMES, PREFIX
from gifcore.runner import prepare
from gifcore.study import parse

SHAPE = (1, 8, 8)
State = dict[str, Tensor]


def state() -> State:
    return dict(build("logistic", SHAPE, 3).state_dict())


def prefixed(prefix: str) -> State:
    return {prefix + key: value for key, value in state().items()}


WRAPPED: dict[str, tuple[object, list[str]]] = {
    "plain": (state(), []),
    "state_dict": (
        {"state_dict": state(), "epoch": 3},
        ["'state_dict' in the file; beside it, un"],
    ),
    "model": ({"model": state(), "optimizer": {"lr": 0.1}}, ["'model' in the file"]),
    "twice": ({"model": {"state_dict": state()}}, ["from 'model'", "from 'state_dict'"]),
    "parallel": (prefixed("module."), ["prefix 'module.' of every name (DataParallel)"]),
    "compiled": (prefixed("_orig_mod.module."), ["'_orig_mod.'", "'module.'"]),
    "lightning": ({"state_dict": prefixed("model.")}, ["'state_dict'", "prefix 'model.'"]),
    "half": ({k: v.half() for k, v in state().items()}, ["stored as float16"]),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_wrappers_are_undone_and_told(tmp_path: Path, case: str) -> None:
    content, notes = WRAPPED[case]
    torch.save(content, tmp_path / "w.pt")
    model = build("logistic", SHAPE, 3)
    said = load_weights(model, tmp_path / "w.pt")
    assert len(said) == len(notes)
    for sentence, part in zip(said, notes, strict=True):
        assert part in sentence
    inner = content
    while not all(isinstance(v, Tensor) for v in inner.values()):
        inner = inner.get("model", inner.get("state_dict"))
    wanted = next(v for k, v in inner.items() if k.endswith("linear.weight"))
    assert torch.equal(model.state_dict()["linear.weight"], wanted.float())


def test_a_prefix_that_only_some_names_have_is_not_undone(tmp_path: Path) -> None:
    mixed = prefixed("module.")
    mixed["linear.bias"] = mixed.pop("module.linear.bias")
    torch.save(mixed, tmp_path / "w.pt")
    sentence = r"no weights 'linear.weight' .* \(its first name is 'module.linear.weight'\)"
    with pytest.raises(GifError, match=sentence):
        load_weights(build("logistic", SHAPE, 3), tmp_path / "w.pt")


def test_a_prefix_that_the_architecture_has_itself_stays() -> None:
    from gifcore.models.weights import without_prefixes

    named = prefixed("model.")
    assert without_prefixes(named, named) == (named, ())


def test_wrappers_without_end_are_refused(tmp_path: Path) -> None:
    nested: object = state()
    for _ in range(50):
        nested = {"model": nested}
    torch.save(nested, tmp_path / "w.pt")
    with pytest.raises(GifError, match="entry 'model' is a dict, not a tensor"):
        load_weights(build("logistic", SHAPE, 3), tmp_path / "w.pt")
    save_file(prefixed("module." * 100), tmp_path / "w.safetensors")
    with pytest.raises(GifError, match="has no weights 'linear.weight'"):
        load_weights(build("logistic", SHAPE, 3), tmp_path / "w.safetensors")
    save_file(prefixed("module." * 200), tmp_path / "w.safetensors")
    with pytest.raises(GifError, match=r"has a name of 1,4\d\d characters"):
        load_weights(build("logistic", SHAPE, 3), tmp_path / "w.safetensors")
    save_file({}, tmp_path / "w.safetensors")
    with pytest.raises(GifError, match="holds no weights"):
        load_weights(build("logistic", SHAPE, 3), tmp_path / "w.safetensors")


def test_another_number_of_classes_is_said_as_such(tmp_path: Path) -> None:
    save_file(dict(build("fcn", SHAPE, 10).state_dict()), tmp_path / "w.safetensors")
    with pytest.raises(GifError) as caught:
        load_weights(build("fcn", SHAPE, 3), tmp_path / "w.safetensors")
    assert "'linear3.weight' has shape (10, 64), expected (3, 64)" in str(caught.value)
    assert "the checkpoint tells 10 classes apart, the data have 3" in str(caught.value)


# --- files that ask for too much -----------------------------------------------------------------


def test_an_oversized_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"a": "x" * weight_files.MAX_HEADER}}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(GifError, match=r"claims a header of 10,000,\d+ bytes, at most 10,000,000"):
        load_weights(build("logistic", SHAPE, 3), path)


def test_many_tensors_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_files, "MAX_TENSORS", 1)
    torch.save(state(), tmp_path / "w.pt")
    save_file(state() | {"c": torch.zeros(1)}, tmp_path / "w.safetensors")
    for name in ("w.pt", "w.safetensors"):
        with pytest.raises(GifError, match="at most 1 (tensors )?are taken"):
            load_weights(build("logistic", SHAPE, 3), tmp_path / name)


def test_a_tensor_that_only_claims_its_size_is_refused(tmp_path: Path) -> None:
    """One stored number, seen as 10^10 of them."""
    torch.save({"linear.weight": torch.zeros(1).expand(10**10)}, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").stat().st_size < 5000
    with pytest.raises(GifError, match=r"holds tensors of 40\.0 GB together; at most 4 GB"):
        load_weights(build("logistic", SHAPE, 3), tmp_path / "w.pt")


def test_a_packed_checkpoint_that_unpacks_to_too_much_is_refused_unopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", bytes(10**6))
    assert path.stat().st_size < 5000
    monkeypatch.setattr(weight_files, "MAX_BYTES", 10**5)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("was opened"))
    with pytest.raises(GifError, match="unpacks to"):
        load_weights(build("logistic", SHAPE, 3), path)


# --- files that could run code -------------------------------------------------------------------


class Attack:
    """Unpickling this would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("inside", [True, False])
def test_code_beside_good_weights_is_never_run(tmp_path: Path, inside: bool) -> None:
    attack = Attack(tmp_path / "made")
    content = {"state_dict": state(), "extra": attack} if inside else attack
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(GifError, match="never loaded because they can run code"):
        load_weights(build("logistic", SHAPE, 3), tmp_path / "w.pt")
    assert not (tmp_path / "made").exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(build("logistic", SHAPE, 3), tmp_path / "w.pt")
    with pytest.raises(GifError, match=r"save model\.state_dict\(\)"):
        load_weights(build("logistic", SHAPE, 3), tmp_path / "w.pt")


def test_a_refused_file_is_not_tried_in_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(*_: object, **options: object) -> object:
        asked.append(options["weights_only"])
        raise pickle.UnpicklingError("no")

    (tmp_path / "w.pt").write_bytes(b"anything")
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(GifError):
        load_weights(build("logistic", SHAPE, 3), tmp_path / "w.pt")
    assert asked == [True]


def test_an_older_torch_opens_no_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(state(), tmp_path / "w.pt")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(GifError, match=r"is not opened with torch 2\.9\.1"):
        load_weights(build("logistic", SHAPE, 3), tmp_path / "w.pt")


# --- classifiers of torchvision ------------------------------------------------------------------


def test_the_names_are_those_of_torchvision() -> None:
    assert sorted((*NAMES, *AUXILIARY)) == sorted(vision.list_models(module=vision))


@pytest.mark.parametrize("channels", [3, 1])
def test_a_checkpoint_of_torchvision_fits_and_computes_the_same(
    tmp_path: Path, channels: int
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = vision.shufflenet_v2_x0_5(num_classes=4).eval()
        if channels == 1:
            theirs.conv1[0] = torch.nn.Conv2d(1, 24, 3, 2, 1, bias=False)
        x = torch.rand(2, channels, 32, 32)
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "w.pth")
    ours = build(PREFIX + "shufflenet_v2_x0_5", (channels, 32, 32), 4)
    load_weights(ours, tmp_path / "w.pth")
    assert torch.equal(ours.eval()(x), theirs(x))
    assert not any(getattr(module, "inplace", False) for module in ours.modules())


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("torchvision/squeezenet1_1", (3, 4, 4), "squeezenet1_1 cannot take inputs of 3 x 4 x 4"),
        ("torchvision/googlenet", (3, 64, 64), "trained on auxiliary outputs too"),
        ("torchvision/os", (3, 64, 64), "There is no model 'torchvision/os'"),
        ("torchvision/../resnet18", (3, 64, 64), "There is no model"),
    ],
)
def test_classifiers_that_cannot_be(name: str, shape: tuple[int, int, int], sentence: str) -> None:
    with pytest.raises(GifError, match=sentence):
        build(name, shape, 2)


def test_titles() -> None:
    names = ("tinynet", "torchvision/resnet18", "my.nets:small")
    assert [title(n) for n in names] == ["TinyNet", "resnet18 of torchvision", "my.nets:small"]


# --- plugins -------------------------------------------------------------------------------------

PLUGIN = """
from torch import nn
MARK = open({mark!r}, "w").close()
def small(shape, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], n_classes))
MODELS = {{"small": small, "broken": lambda shape, n: 1 / 0, "text": lambda shape, n: "net"}}
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module own_nets_<n> that can be found, and a file it makes when it is imported."""
    mark = tmp_path / "imported"
    (tmp_path / "own_nets.py").write_text(PLUGIN.format(mark=str(mark)))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    monkeypatch.setenv("GIF_STUDIO_PLUGINS", "")
    return mark


def test_a_plugin_that_was_not_allowed_is_not_imported(plugin: Path) -> None:
    for ask in (lambda: build("own_nets:small", SHAPE, 3), lambda: check_name("own_nets:small")):
        with pytest.raises(GifError, match="can allow it with --plugin own_nets"):
            ask()
    assert not plugin.exists()


def test_an_allowed_plugin_builds(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIF_STUDIO_PLUGINS", "own_nets")
    check_name("own_nets:small")
    assert not plugin.exists()  # a name is checked without importing
    assert build("own_nets:small", SHAPE, 3)(torch.zeros(2, *SHAPE)).shape == (2, 3)
    assert plugin.exists()
    for name, sentence in (
        ("own_nets:large", "has no 'large'; it has small, broken, text"),
        ("own_nets:broken", "failed: ZeroDivisionError"),
        ("own_nets:text", "gave a str, no torch module"),
    ):
        with pytest.raises(GifError, match=sentence):
            build(name, SHAPE, 3)


@pytest.mark.usefixtures("plugin")
def test_a_plugin_by_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = build("logistic", SHAPE, 10).state_dict()
    renamed = {key.replace("linear", "1"): value for key, value in known.items()}
    save_file(renamed, tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    command = ["own", "--data", "digits", "--model", "own_nets:small", "--weights", "w.safetensors"]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 1
    assert "can allow it with --plugin own_nets" in refused.stderr
    taken = CliRunner().invoke(app, ["--plugin", "own_nets", *command])
    assert "model: own_nets:small, 650 parameters" in taken.stdout
    listed = CliRunner().invoke(app, ["--plugin", "own_nets", "models"])
    assert "own_nets:small\n" in listed.stdout


def test_the_code_of_a_plugin_is_part_of_a_study(plugin: Path, tmp_path: Path) -> None:
    save_file(state(), tmp_path / "w.safetensors")
    asked = {"name": "own_nets:small", "weights": str(tmp_path / "w.safetensors")}
    one = parse({"data": {"source": "digits"}, "model": asked})
    with pytest.raises(GifError, match="--plugin own_nets"):
        prepare(one)
    plugins.allow("own_nets")
    first = prepare(one).hash
    assert prepare(one).hash == first
    plugin.with_name("own_nets.py").write_text(PLUGIN.format(mark=str(plugin)) + "# another\n")
    assert prepare(one).hash != first
