"""Imports point one way, the engine knows no dashboard, and records are read without torch."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gifcore

PACKAGE = Path(gifcore.__file__).parent

# Each module may import those above it at its top level (design, section 6).
ORDER = (
    "version", "errors", "processes", "assets_path", "preview", "quota", "parameters",
    "operators", "problem", "features", "checks", "targets", "queries", "second_derivatives",
    "views", "change", "data", "models", "checkpoints", "training", "selection", "positions",
    "convolution", "curvature", "retraining", "solvers", "curved", "methods", "influence",
    "block_adjoints", "dual", "ways", "contraction", "gradient_products", "streams", "scoring",
    "small_space", "small_solve", "units", "closed_self", "dense_self", "self_influence",
    "sketch", "edit", "evaluate", "change_section", "group_section", "fastif_section",
    "mislabel_section", "mislabel_words", "retrain_section", "sections", "explained", "study",
    "outcome", "run_state", "record", "held_against", "solve_words", "verdict", "neighbors",
    "tables", "estimate", "changing", "stages", "query_solves", "solving", "previewing",
    "themselves", "opinions", "truth", "mislabel", "fastif_words", "fastif_ways", "fastif",
    "showing", "runner", "understood", "manifest", "pipeline", "checkup", "experiments", "cli",
    "__main__",
)  # fmt: skip


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def files() -> list[Path]:
    found = [p for p in PACKAGE.rglob("*.py") if "assets" not in p.relative_to(PACKAGE).parts]
    return sorted(found)


def imports(path: Path) -> list[tuple[str, bool]]:
    """(dotted name, executed on import of the file?) of every import of the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in lazy) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(name, id(node) not in lazy) for name in names]
    return found


def test_every_module_has_its_place_in_the_order() -> None:
    assert {module_of(path) for path in files()} - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    mine = module_of(path)
    if mine == "__init__":
        return  # lazy: tested below by what is loaded
    for name, at_once in imports(path):
        parts = name.split(".")
        if parts[0] != "gifcore" or not at_once:
            continue
        theirs = parts[1] if parts[1] in ORDER else "__init__"
        assert theirs == mine or ORDER.index(theirs) < ORDER.index(mine), f"{mine} imports {name}"


def test_the_engine_knows_no_dashboard() -> None:
    for path in files():
        roots = {name.split(".")[0] for name, _ in imports(path)}
        assert not roots & {"streamlit", "dashboard", "plotly", "tests"}, path.name


WITHOUT_TORCH = (
    "gifcore", "gifcore.study", "gifcore.record", "gifcore.run_state", "gifcore.estimate",
    "gifcore.runner", "gifcore.data", "gifcore.models", "gifcore.cli", "gifcore.checkup",
    "gifcore.preview", "gifcore.fastif_words", "gifcore.verdict",
)  # fmt: skip


def run_code(code: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    )
    return answer.stdout.strip()


def test_records_studies_and_estimates_need_no_torch() -> None:
    code = f"import sys\nfor name in {WITHOUT_TORCH}:\n __import__(name)\n"
    code += " if 'torch' in sys.modules: print(name); break"
    assert run_code(code) == ""


def test_preparing_a_study_needs_no_torch() -> None:
    code = (
        "import sys; from gifcore import runner, study;"
        "p = runner.prepare(study.parse({'data': {'source': 'digits'}, 'model': {'name': 'fcn'}}));"
        "print(len(p.hash), 'torch' in sys.modules)"
    )
    assert run_code(code) == "64 False"
