"""A training's rows are recognised, and what differs is said by split."""

from pathlib import Path

import pytest

from tests.untrained import make_config
from timellm_cli.data.windows import load_data
from timellm_cli.splits import RowsIdentity, differences


def identity_of(path: Path, lines: list[str]) -> dict[str, RowsIdentity]:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return load_data(make_config(path)).identity


@pytest.fixture
def lines(small_csv: Path) -> list[str]:
    return small_csv.read_text(encoding="utf-8").splitlines()


def test_the_same_rows_are_the_same_however_they_are_written(lines: list[str], tmp_path: Path) -> None:
    first = identity_of(tmp_path / "a.csv", lines)
    header, *rows = lines
    order = [0, 2, 1]
    turned = [",".join([row.split(",")[place] for place in order]).replace(" ", "T") for row in (header, *rows[::-1])]
    turned[0] = "date,load,OT"
    other = identity_of(tmp_path / "b.csv", turned)
    assert list(differences(first, first)) == []
    assert {split: one.digest for split, one in first.items()} == {split: one.digest for split, one in other.items()}
    assert [first[split].rows for split in ("train", "val", "test")] == [280, 40, 80]


@pytest.mark.parametrize(("row", "split"), [(5, "train"), (300, "val"), (399, "test")])
def test_one_changed_cell_changes_its_split_alone(lines: list[str], tmp_path: Path, row: int, split: str) -> None:
    first = identity_of(tmp_path / "a.csv", lines)
    date, target, load = lines[row + 1].split(",")
    changed = [*lines[: row + 1], f"{date},{target},{float(load) + 1e-9!r}", *lines[row + 2 :]]
    found = list(differences(first, identity_of(tmp_path / "b.csv", changed)))
    assert len(found) == 1
    assert found[0].startswith(f"{split}: the same ") and found[0].endswith("but with other values")


def test_a_cut_file_names_rows_and_times_of_both(lines: list[str], tmp_path: Path) -> None:
    first = identity_of(tmp_path / "a.csv", lines)
    found = list(differences(first, identity_of(tmp_path / "b.csv", lines[:301])))
    assert found[0] == (
        "train: 280 rows from 2024-01-01 00:00:00 to 2024-01-12 15:00:00 then, "
        "210 rows from 2024-01-01 00:00:00 to 2024-01-09 17:00:00 now"
    )
    assert len(found) == 3


def test_swapped_columns_are_other_rows(lines: list[str], tmp_path: Path) -> None:
    first = identity_of(tmp_path / "a.csv", lines)
    header, *rows = lines
    swapped = [",".join((date, load, target)) for date, target, load in (row.split(",") for row in rows)]
    assert len(list(differences(first, identity_of(tmp_path / "b.csv", [header, *swapped])))) == 3
