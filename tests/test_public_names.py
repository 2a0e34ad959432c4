"""The public surface: exactly the names of the design, importable and documented."""

import os
import re
import subprocess
import sys
from pathlib import Path

import gifcore

NAMES = {
    "AddSamples", "CG", "Cancelled", "Checkpoint", "Curved", "Dense", "GifError", "Influence",
    "LSMR", "Lissa", "MINRES", "NearestScores", "NeighborIndex", "Neumann", "PLissa",
    "ParameterSpace", "Problem", "Queries", "Relabel", "RemoveClass", "RemoveSamples", "Reweight",
    "Scores", "Selection", "SelfInfluence", "Solution", "Status", "Union", "cross_entropy", "edit",
    "influence", "rank", "rank_nearest", "recall", "recall_table", "select", "self_influence",
}  # fmt: skip


def test_all_is_sorted_and_exactly_these() -> None:
    constants_classes_functions = sorted(
        gifcore.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
    assert list(gifcore.__all__) == constants_classes_functions
    assert set(gifcore.__all__) == NAMES


def test_every_name_loads_and_explains_itself() -> None:
    for name in gifcore.__all__:
        value = getattr(gifcore, name)
        assert value.__doc__, name
        assert value.__module__.startswith("gifcore."), name


def test_functions_are_not_hidden_by_the_modules_of_their_name() -> None:
    """`import gifcore.edit` binds the module to the package; the function must win."""
    code = (
        "import gifcore as gif, gifcore.scoring, gifcore.edit, gifcore.influence;"
        "from gifcore.pipeline import compute;"
        "print(callable(gif.influence), callable(gif.edit), callable(gif.rank))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert answer.stdout.split() == ["True"] * 3


def test_star_import_and_unknown_names() -> None:
    scope: dict[str, object] = {}
    exec("from gifcore import *", scope)
    assert set(scope) >= NAMES
    assert not hasattr(gifcore, "does_not_exist")


def test_types_for_checkers_are_the_same_names() -> None:
    text = Path(gifcore.__file__).read_text(encoding="utf-8")
    block = text[text.index("if TYPE_CHECKING:") : text.index("_HOME")]
    imported = re.findall(r"import (.+)", block)
    assert {name.strip() for line in imported for name in line.split(",")} - {"TYPE_CHECKING"} == (
        NAMES
    )
