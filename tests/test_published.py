"""Published numbers: behind their column, in the CSV, and in the sentence on where runs differ."""

from collections.abc import Mapping

from gifcore.experiments.kind import Column, Kind, Published, Run
from gifcore.experiments.published import compared
from gifcore.experiments.runner import Done
from gifcore.experiments.spec import Experiment
from gifcore.experiments.tables import Row, markdown, rows_of, table_csv

COLUMNS = (Column("f1", "F1"), Column("seconds", "seconds", ".0f"))
KNOWN = {("a", "f1"): Published(0.9, 0.01), ("b", "f1"): Published(0.8)}


def kind(known: Mapping[tuple[str, str], Published]) -> Kind:
    return Kind(
        Experiment, COLUMNS, "f1", lambda *_: iter(()), published=known, published_in="table 9"
    )


def rows(*done: Done) -> list[Row]:
    runs = [Run(one.protocol, one.seed, one.row, 0.0, dict) for one in done]
    return rows_of(runs, done)


def done(protocol: str, **values: float) -> list[Done]:
    return [
        Done(protocol, seed, {"method": name}, {"f1": value, "seconds": 2.0}, None, 1.0)
        for name, value in values.items()
        for seed in (0, 1)
    ]


def test_a_published_number_stands_behind_its_column_only() -> None:
    text = markdown(rows(*done("paper", a=0.5, c=0.4)), COLUMNS, KNOWN)
    lines = text.splitlines()
    assert lines[0] == "| method | F1 | F1, published | seconds | runs |"
    assert lines[1].count("---") == 5
    assert lines[2] == "| a | 0.5000 ± 0.0000 | 0.9000 ± 0.0100 | 2 ± 0 | 2 |"
    assert lines[3] == "| c | 0.4000 ± 0.0000 |  | 2 ± 0 | 2 |"
    assert "published" not in markdown(rows(*done("paper", a=0.5)), COLUMNS)


def test_the_csv_has_it_beside_the_mean() -> None:
    lines = table_csv(rows(*done("ours", a=0.5)), COLUMNS, KNOWN).splitlines()
    assert lines[0].endswith("mean,sd,runs,failed,published,published_sd")
    assert lines[1] == "ours,a,f1,0.5,0.0,2,0,0.9,0.01"
    assert lines[2] == "ours,a,seconds,2.0,0.0,2,0,,"


def test_the_sentence_names_the_widest_difference_and_another_order() -> None:
    found = rows(*done("paper", a=0.5, b=0.7, c=0.2), *done("ours", a=0.1, b=0.9))
    assert compared(found, kind(KNOWN)) == (
        "Against the published numbers (table 9), 2 rows: the widest difference in F1 is at a, "
        "0.5000 here by the published protocol and 0.9000 published. 1 of 1 pairs of rows stand in "
        "another order, such as a above b, which is published and not found here."
    )
    same = rows(*done("paper", a=0.8, b=0.75))
    assert compared(same, kind(KNOWN)).endswith("The order of the rows is the published one.")
    assert compared(found, kind({})) == ""
