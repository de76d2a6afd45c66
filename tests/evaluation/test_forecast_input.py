from pathlib import Path

import numpy as np
import pytest

from tests.untrained import make_config
from timellm_cli.errors import DataError
from timellm_cli.evaluation.forecast_input import ForecastInput, read_input

HOUR = "0 days 01:00:00"
COLUMNS = ("load", "OT")


def read(
    source: Path | bytes, at: str | None = None, columns: tuple[str, ...] = COLUMNS, **changes: object
) -> ForecastInput:
    return read_input(source, make_config(Path("trained.csv"), **changes), columns, HOUR, at)


def lines_of(csv: Path) -> list[str]:
    return csv.read_text(encoding="utf-8").splitlines()


def test_columns_are_found_by_name_and_keep_both_orders(small_csv: Path) -> None:
    given = read(small_csv)
    assert given.table.columns == ("load", "OT")
    assert given.order == ("OT", "load")
    assert given.last_known == 399
    assert given.history(48).shape == (48, 2)
    assert given.history(48)[-1].tolist() == [float(cell) for cell in lines_of(small_csv)[-1].split(",")[:0:-1]]
    assert np.isnan(given.actual(12)).all()


def test_bytes_are_read_like_a_file(small_csv: Path) -> None:
    assert np.array_equal(read(small_csv.read_bytes()).table.values, read(small_csv).table.values)


def test_columns_the_checkpoint_does_not_know_are_ignored_with_a_note(small_csv: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    header, *rows = lines_of(small_csv)
    path.write_text("\n".join([header + ",who", *(row + ",Ann" for row in rows)]), encoding="utf-8")
    given = read(path)
    assert given.notes == ("columns that the checkpoint does not know are ignored: who",)
    assert given.order == ("OT", "load")


@pytest.mark.parametrize("at", ["2024-01-10 05:00:00", "2024-01-10T05:00"])
def test_history_ends_at_the_given_row_and_the_rest_is_known(small_csv: Path, at: str) -> None:
    given, row = read(small_csv, at), 9 * 24 + 5
    whole = read(small_csv).table.values
    assert given.last_known == row
    assert np.array_equal(given.history(48), whole[row - 47 : row + 1])
    assert np.array_equal(given.actual(12), whole[row + 1 : row + 13])
    near_end = read(small_csv, "2024-01-17 12:00:00").actual(12)
    assert np.isfinite(near_end).all(axis=1).tolist() == [True] * 3 + [False] * 9


def test_at_may_be_written_as_the_file_writes_it(small_csv: Path, tmp_path: Path) -> None:
    path = tmp_path / "german.csv"
    header, *rows = lines_of(small_csv)
    turned = [f"{row[8:10]}.{row[5:7]}.{row[:4]} {row[11:16]}{row[19:]}" for row in rows]
    path.write_text("\n".join([header, *turned]), encoding="utf-8")
    assert read(path, "10.01.2024 05:00").last_known == read(path, "2024-01-10 05:00").last_known == 9 * 24 + 5


def error_of(source: Path | bytes, at: str | None = None, **changes: object) -> str:
    with pytest.raises(DataError) as refused:
        read(source, at, **changes)
    return f"{refused.value.message} | {refused.value.hint}"


def test_a_missing_column_names_both_sides(small_csv: Path) -> None:
    text = error_of(small_csv, columns=("loads", "OT"))
    for words in (str(small_csv), "no column 'loads'", "'date', 'OT', 'load'", "did you mean 'load'?", "'loads', 'OT'"):
        assert words in text
    assert "no column 'when'" in error_of(small_csv, data__date_column="when")


def test_another_cadence_names_both_sides(small_csv: Path) -> None:
    header, *rows = lines_of(small_csv)
    text = error_of("\n".join([header, *rows[::2]]).encode())
    assert "standard input has a row every 02:00:00" in text
    assert "trained on one every 01:00:00" in text


def test_too_few_rows_name_both_numbers(small_csv: Path) -> None:
    header, *rows = lines_of(small_csv)
    text = error_of("\n".join([header, *rows[:47]]).encode())
    assert "47 rows" in text
    assert "48 rows of history" in text
    assert read("\n".join([header, *rows[:48]]).encode()).last_known == 47
    assert "47 rows up to 2024-01-02 22:00" in error_of(small_csv, "2024-01-02 22:00")


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("2024-01-10 05:30", "no row at 2024-01-10 05:30"),
        ("2025-01-01", "from 2024-01-01 00:00:00 to 2024-01-17 15:00:00, one every 01:00:00"),
        ("yesterday", "'yesterday' is no timestamp"),
    ],
)
def test_a_timestamp_without_a_row_says_which_rows_there_are(small_csv: Path, at: str, words: str) -> None:
    assert words in error_of(small_csv, at)


def test_gaps_are_refused_or_filled_as_the_configuration_says(small_csv: Path) -> None:
    header, *rows = lines_of(small_csv)
    content = "\n".join([header, *rows[:380], *rows[383:]]).encode()
    assert "gap" in error_of(content)
    given = read(content, data__fill="linear")
    assert given.last_known == 399
    assert any("3" in note for note in given.notes)
