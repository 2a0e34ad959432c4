"""The architectures and the checkpoints: what fits, and the one sentence for what does not."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gifcore.assets_path import asset
from gifcore.data import load
from gifcore.errors import GifError
from gifcore.models import MODELS, build, bundled, checkpoint_card, load_weights
from gifcore.models.small_image import ShuffleUnit

SHAPE = (1, 8, 8)
State = dict[str, Tensor]


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_importing_the_registry_imports_no_torch() -> None:
    code = "import sys, gifcore.models; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (3, 32, 32), (2, 9, 5), (1, 1, 7)])
def test_any_shape(name: str, shape: tuple[int, int, int]) -> None:
    model = build(name, shape, 4)
    assert model(torch.zeros(3, *shape)).shape == (3, 4)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(list(model.buffers())) == 3 * len(norms)  # running statistics and nothing else
    assert bool(norms) == (MODELS[name].module == "small_image")
    assert MODELS[name].title
    assert MODELS[name].text


@pytest.mark.parametrize(
    ("name", "count"),
    [("tinynet", 398_090), ("fcn", 109_386), ("lenet", 107_786), ("logistic", 7_850)],
)
def test_sizes_on_fashion_mnist(name: str, count: int) -> None:
    assert parameters(build(name, (1, 28, 28), 10)) == count


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        ("resnet18", (1, 28, 28), 11_172_810),
        ("resnet18", (3, 32, 32), 11_173_962),
        ("vgg11-bn", (3, 32, 32), 9_231_114),
        ("shufflenet-v2", (3, 32, 32), 1_263_854),
    ],
)
def test_sizes_of_the_paper(name: str, shape: tuple[int, int, int], count: int) -> None:
    assert parameters(build(name, shape, 10)) == count


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("resnet18", {64: 32, 128: 16, 256: 8, 512: 4}),
        ("vgg11-bn", {64: 32, 128: 16, 256: 8, 512: 2}),  # the last two stages: 4, then 2
        ("shufflenet-v2", {58: 16, 116: 8, 232: 4, 1024: 4}),
    ],
)
def test_the_small_image_networks_keep_the_image_as_large_as_they_should(
    name: str, shapes: dict[int, int]
) -> None:
    """Width of a convolution -> side of the last feature map of that width, from 32 x 32."""
    sides: dict[int, int] = {}
    model = build(name, (3, 32, 32), 10).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda m, _, y: sides.__setitem__(m.out_channels, len(y[0, 0]))
            )
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert {width: sides[width] for width in shapes} == shapes


def test_the_channel_shuffle_interleaves_the_halves() -> None:
    unit = ShuffleUnit(8).eval()
    nn.init.zeros_(unit.branch[3].norm.weight)  # the branch answers zero
    x = torch.arange(1.0, 9.0).reshape(1, 8, 1, 1)
    assert unit(x).flatten().tolist() == [1, 0, 2, 0, 3, 0, 4, 0]


def test_names_of_tinynet_are_readable() -> None:
    names = [name for name, _ in build("tinynet", SHAPE, 2).named_parameters()]
    layers = ("conv1", "conv2", "conv3", "conv4", "linear")
    assert names == [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]


def test_unknown_model() -> None:
    with pytest.raises(GifError, match="no model 'resnet'; the models are tinynet, fcn, lenet"):
        build("resnet", SHAPE, 2)


def with_statistics(name: str) -> nn.Module:
    """A small-image network after two batches in training mode."""
    model = build(name, SHAPE, 3)
    for _ in range(2):
        model(torch.randn(4, *SHAPE))
    return model


SAVERS: dict[str, Callable[[State, Path], Any]] = {
    "w.safetensors": save_file,
    "w.pt": torch.save,
    "w.pth": lambda state, path: torch.save({"state_dict": state, "epoch": 3}, path),
}


@pytest.mark.parametrize("name", SAVERS)
def test_round_trip(tmp_path: Path, name: str) -> None:
    source, target = build("fcn", SHAPE, 3), build("fcn", SHAPE, 3)
    SAVERS[name](dict(source.state_dict()), tmp_path / name)
    load_weights(target, tmp_path / name)
    for key, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[key])


@pytest.mark.parametrize("file", SAVERS)
def test_round_trip_with_the_statistics_of_batch_norm(tmp_path: Path, file: str) -> None:
    source, target = with_statistics("shufflenet-v2"), build("shufflenet-v2", SHAPE, 3)
    SAVERS[file](dict(source.state_dict()), tmp_path / file)
    load_weights(target, tmp_path / file)
    state = target.state_dict()
    assert all(torch.equal(state[key], value) for key, value in source.state_dict().items())
    assert int(state["stem.norm.num_batches_tracked"]) == 2
    x = torch.randn(2, *SHAPE)
    assert torch.equal(source.eval()(x), target.eval()(x))


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        (
            "stem.norm.num_batches_tracked",
            torch.tensor(2.0),
            "'stem.norm.num_batches_tracked' is float32, expected int64",
        ),
        ("stem.norm.running_var", torch.tensor([1] * 24), "is int64, expected floating-point"),
        ("stem.norm.running_mean", torch.full((24,), torch.inf), "values that are NaN or infinite"),
        ("stem.norm.running_var", None, "has no weights 'stem.norm.running_var'"),
    ],
)
def test_statistics_that_do_not_fit(
    tmp_path: Path, key: str, value: Tensor | None, sentence: str
) -> None:
    state = dict(build("shufflenet-v2", SHAPE, 3).state_dict())
    if value is None:
        del state[key]
    else:
        state[key] = value
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(GifError) as caught:
        load_weights(build("shufflenet-v2", SHAPE, 3), tmp_path / "w.pt")
    assert sentence in str(caught.value)


WRONG: list[tuple[str, Callable[[State], object], str]] = [
    ("missing", lambda s: s.pop("linear.bias"), "has no weights 'linear.bias' (expected shape (3"),
    (
        "shape",
        lambda s: s.update({"linear.weight": torch.zeros(3, 63)}),
        "'linear.weight' has shape (3, 63), expected (3, 64)",
    ),
    (
        "extra",
        lambda s: s.update({"more": torch.zeros(2)}),
        "has weights 'more' of shape (2,), which this architecture does not have",
    ),
    (
        "integers",
        lambda s: s.update({"linear.bias": torch.zeros(3, dtype=torch.int64)}),
        "'linear.bias' is int64, expected floating-point numbers",
    ),
    (
        "NaN",
        lambda s: s.update({"linear.bias": torch.tensor([0, float("nan"), 0])}),
        "'linear.bias' has values that are NaN or infinite",
    ),
]


@pytest.mark.parametrize("file", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize(
    ("change", "sentence"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_wrong_weights_leave_the_model_untouched(
    tmp_path: Path, file: str, change: Callable[[State], object], sentence: str
) -> None:
    model = build("logistic", SHAPE, 3)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state = dict(build("logistic", SHAPE, 3).state_dict())
    change(state)
    SAVERS[file](state, tmp_path / file)
    with pytest.raises(GifError) as caught:
        load_weights(model, tmp_path / file)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(file)
    assert all(torch.equal(before[key], model.state_dict()[key]) for key in before)


class Attack:
    """Unpickling this would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize(
    "save", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))]
)
def test_a_pickle_is_never_run(tmp_path: Path, save: Callable[[object, Path], object]) -> None:
    save(Attack(tmp_path / "made"), tmp_path / "w.pt")
    with pytest.raises(GifError, match="never loaded because they can run code"):
        load_weights(build("logistic", SHAPE, 3), tmp_path / "w.pt")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([torch.zeros(2)], "holds no weights: expected a state dict, found list"),
        ({}, "holds no weights: expected a state dict, found dict"),
        (
            {"linear.weight": torch.zeros(3, 64).to_sparse(), "linear.bias": torch.zeros(3)},
            "'linear.weight' is sparse float32, expected floating-point numbers",
        ),
        ({"epoch": 3}, "entry 'epoch' is a int, not a tensor"),
    ],
)
def test_not_a_state_dict(tmp_path: Path, content: object, sentence: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(GifError, match=sentence):
        load_weights(build("logistic", SHAPE, 3), tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"garbage of some length"])
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GifError, match=f"{name} is not a"):
        load_weights(build("logistic", SHAPE, 3), tmp_path / name)


def test_wrong_suffix_missing_and_huge(tmp_path: Path) -> None:
    model = build("logistic", SHAPE, 3)
    with pytest.raises(GifError, match=r"expected a \.safetensors, \.pt, \.pth file"):
        load_weights(model, tmp_path / "w.npz")
    with pytest.raises(GifError, match="There is no checkpoint"):
        load_weights(model, tmp_path / "w.pt")
    with open(tmp_path / "w.pt", "wb") as file:
        file.truncate(5 * 10**9)  # sparse
    with pytest.raises(GifError, match=r"has 5\.0 GB; checkpoints may have at most 4 GB"):
        load_weights(model, tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("model", "data", "least"),
    [
        ("tinynet", "fashion-mnist-mini", 0.86),
        ("logistic", "digits", 0.94),
        ("fcn", "digits", 0.95),
    ],
)
def test_bundled_checkpoints_are_as_good_as_their_cards(
    model: str, data: str, least: float
) -> None:
    path = bundled(model, data)
    assert path is not None
    card = checkpoint_card(path)
    assert card is not None
    loaded = load(data)
    assert card["data"] == {"name": data, "hash": loaded.hash}
    net = build(model, loaded.shape, loaded.n_classes)
    load_weights(net, path)
    assert parameters(net) == card["parameters"]
    with torch.no_grad():
        right = net(torch.from_numpy(loaded.test.inputs())).argmax(1).numpy() == loaded.test.y
    assert right.mean() == pytest.approx(card["accuracy"]["test"], abs=0.002)
    assert card["accuracy"]["test"] >= least


def test_nothing_bundled_and_no_card(tmp_path: Path) -> None:
    assert bundled("lenet", "digits") is None
    assert bundled("tinynet", str(tmp_path / "mine.npz")) is None
    assert checkpoint_card(tmp_path / "w.pt") is None
    assert asset("models").is_dir()


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_damaged_card(tmp_path: Path, content: str) -> None:
    (tmp_path / "w.json").write_text(content)
    with pytest.raises(GifError, match="delete or repair it"):
        checkpoint_card(tmp_path / "w.safetensors")
