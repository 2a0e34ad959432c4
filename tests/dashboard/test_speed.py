"""The page Speed and recall, from the entry point, on what the engine measured and without it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from dashboard.charts.ways import Line, by_way
from dashboard.components import ways
from dashboard.views import speed as view
from gifcore.record import RECORD, Record
from tests.dashboard.opened import charts, open_page, said


@pytest.fixture
def measured(empty_workspace: Path, fastif_record: Path) -> Record:
    return Record.open(shutil.copytree(fastif_record, empty_workspace / "fastif"))


def kept(record: Record, method: str, k: int) -> float:
    table = record.recall(method).query("way == 'exact' and predictions == 'all' and m == 10")
    return float(table[(table["criterion"] == "largest") & (table["k"] == k)]["kept"].iloc[0])


def test_the_answer_is_what_was_measured(measured: Record) -> None:
    at = open_page("speed")
    text = said(at)
    share = f"{100 * kept(measured, 'if', 200):.0f} %"
    assert f"**200 nearest of 1,000 training images keep {share} of the exact top 10**" in text
    rho = measured.speed("if").query("k == 1000").groupby("way")["spearman"].mean()
    assert f"Spearman’s ρ = **{rho['lissa-1']:.2f}** (effective damping 1)" in text
    assert f"gradient without a solve to **{rho['gradient']:.2f}**" in text
    assert charts(at) == 2
    table = at.dataframe[-1].value
    assert table["J"].tolist() == ["30", "gradient alone"]
    assert table["damp × scale"].tolist() == ["0.01 × 100", ""]
    assert table["= damping"].iloc[0] == "1"
    assert table["rank correlation"].iloc[0].startswith(f"{rho['lissa-1']:.2f} (")


@pytest.mark.usefixtures("measured")
def test_every_choice_draws_and_changes_what_is_said() -> None:
    at = open_page("speed")
    texts = {said(at)}
    for key, choices in {
        "speed-quality": ("helpful", "harmful", "spearman"),
        "speed-counted": ("score_seconds",),
        "speed-predictions": ("correct", "wrong"),
        "speed-method": ("gif",),
    }.items():
        for choice in choices:
            at.session_state[key] = choice
            at.run()
            assert not at.exception
            assert not at.error
            assert charts(at) == 2
            texts.add(said(at))
    assert len(texts) >= 6
    assert "For GIF, the" in said(at)
    assert "LiSSA’s best" not in said(at)  # GIF's system is none for it


def test_how_sure_names_queries_seconds_and_lost_chains(measured: Record) -> None:
    entry = measured.fastif["methods"]["if"]
    entry["ways"]["lissa-1"]["notes"].append("test image 3: chain 2 of 3 was lost (killed)")
    lines = view.certainty(measured.info, measured.fastif, entry)
    assert lines[0].startswith("**4 test images**, 2 predicted rightly and 2 wrongly")
    assert "4 converged; the largest residual is 0.00 %." in lines[1]
    assert "the sketch of rank 8 (" in lines[2]
    assert lines[3:] == ["**LiSSA\\: J 30, B 4, T 1, damping 1**: test image 3\\: chain 2 of 3 was "
                         "lost (killed)."]  # fmt: skip
    table = ways.spread(entry, measured.speed("if"), measured.fastif["depth"])
    assert len(table) == 3 * 3 + 1  # three ways at every k, and the preview
    assert table["recall@100"].iloc[2] == "100 % (100 to 100)"
    low = measured.speed("if").query("way == 'gradient' and k == 1000")["spearman"].min()
    assert f"({low:.2f} to " in table["rank correlation"].iloc[5]


@pytest.mark.usefixtures("workspace")
def test_a_record_without_it_says_what_to_add() -> None:
    at = open_page("speed")
    assert "did not measure" in said(at)
    assert "[fastif]\nk = [10, 100, 1000]" in at.info[0].value
    assert charts(at) == 0
    assert not at.get("page_link")


@pytest.mark.usefixtures("workspace")
def test_a_record_without_it_leads_to_one_that_has_it(measured: Record) -> None:
    at = open_page("speed", study=Record.open(measured.path.parent / "g05").info["family"][:12])
    assert "did not measure" in said(at)
    (link,) = at.get("page_link")
    assert link.proto.label == "FastIF (digits): measured there"
    assert measured.info["family"][:12] in link.proto.query_string


def test_solves_that_ran_away_leave_the_page_standing(measured: Record) -> None:
    """As the engine records them: NaN, and no recall."""
    path = measured.path / RECORD
    info = json.loads(path.read_text())
    for name, drop in (("recall.parquet", True), ("speed.parquet", False)):
        table = pd.read_parquet(measured.path / name)
        if drop:
            table = table[table["way"] != "lissa-1"]
        else:
            table.loc[table["way"] == "lissa-1", ["spearman", "largest", "cosine"]] = float("nan")
        table.to_parquet(measured.path / name)
        content = (measured.path / name).read_bytes()
        from hashlib import sha256

        info["files"][name] = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    path.write_text(json.dumps(info))
    at = open_page("speed")
    assert charts(at) == 2
    assert "LiSSA’s best" not in said(at)
    assert at.dataframe[-1].value["rank correlation"].iloc[0] == "n/a"


def test_titles_say_the_finding() -> None:
    exact = Line("exact", "Exact solve", (10, 100), (1.0, 3.2), (0.4, 1.0), (0, 1), (0, 1))
    cheap = Line("lissa", "LiSSA", (10, 100), (0.02, 0.5), (0.95, 0.97), (0, 1), (0, 1))
    assert view.speed_title([exact, cheap], "largest", 100, 100) == (
        "LiSSA with k = 10 reaches a recall@100 of 0.95 in 20.0 ms a test image; the exact ranking "
        "takes 3.2 s"
    )
    assert view.speed_title([exact], "spearman", 100, 100) == (
        "Nothing cheaper than the exact ranking reaches a rank correlation of 0.9"
    )
    speed = pd.DataFrame({"way": ["a"] * 2, "k": [5, 5], "spearman": [0.2, 0.6]})
    assert by_way(speed, "spearman").loc[("a", 5)].tolist() == [0.4, 0.2, 0.6]
