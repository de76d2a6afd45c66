"""Tables whose fault every verb must name alike: `train` and `eval` refuse, and `inspect` says it before."""

from pathlib import Path

from tests.hostile.case import INSPECT, SHORT, SMALL, TRAIN, Case, Spoil

_TRAIN = (*TRAIN, *SMALL, *SHORT, "--target", "OT")
_INSPECT = (*INSPECT, "--seq-len", "48", "--pred-len", "12", "--layers", "2", "--target", "OT")
_EVAL = ("eval", "best.pt", "--csv", "data.csv", "--device", "cpu")


def _middle(*lines: str) -> Spoil:
    """Puts these in place of line 201 of data.csv, where the row is 2024-01-09 07:00:00."""

    def spoil(folder: Path) -> None:
        path = folder / "data.csv"
        text = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join([*text[:200], *lines, *text[201:]]) + "\n", encoding="utf-8")

    return spoil


def _all(change: str, into: str) -> Spoil:
    """Replaces a text wherever it stands in data.csv."""

    def spoil(folder: Path) -> None:
        path = folder / "data.csv"
        path.write_text(path.read_text(encoding="utf-8").replace(change, into), encoding="utf-8")

    return spoil


def _both_unnamed(folder: Path) -> None:
    """Two more columns at the end, without names, the second one with values."""
    lines = (folder / "data.csv").read_text(encoding="utf-8").splitlines()
    text = "\n".join([f"{lines[0]},,", *(f"{line},,{row * 3 % 7}" for row, line in enumerate(lines[1:]))])
    (folder / "data.csv").write_text(text + "\n", encoding="utf-8")


_ROW = "2024-01-09 07:00:00"
_FAULTS: list[tuple[str, Spoil, tuple[str, ...]]] = [
    ("a text", _middle(f"{_ROW},high,1"), ("line 201", "column 'OT'", "'high' is no number")),
    ("two points in a number", _middle(f"{_ROW},1.2.3,1"), ("line 201", "'1.2.3' is no number")),
    ("a decimal comma in quotes", _middle(f'{_ROW},"1,5",1'), ("line 201", "'1,5' is no number", "--decimal ,")),
    ("a thousands comma in quotes", _middle(f'{_ROW},"1,500",1'), ("line 201", "'1,500' is no number", "--thousands ,")),
    ("a thousands blank", _middle(f"{_ROW},1 500,1"), ("line 201", "'1 500' is no number", "--thousands")),
    ("a percentage", _middle(f"{_ROW},15%,1"), ("line 201", "'15%' is no number")),
    ("a currency", _middle(f"{_ROW},$15,1"), ("line 201", "'$15' is no number")),
    ("a unit behind the number", _middle(f"{_ROW},15 MW,1"), ("line 201", "'15 MW' is no number")),
    ("a comparison sign", _middle(f"{_ROW},<0.1,1"), ("line 201", "'<0.1' is no number")),
    ("a question mark", _middle(f"{_ROW},?,1"), ("line 201", "'?' is no number", "--na ?")),
    ("a truth value", _middle(f"{_ROW},true,1"), ("line 201", "'true' is no number")),
    ("an infinite value", _middle(f"{_ROW},1,inf"), ("line 201", "column 'load'", "infinite")),
    ("a value beyond float64", _middle(f"{_ROW},1,-1e999"), ("line 201", "column 'load'", "infinite")),
    ("one cell too many", _middle(f"{_ROW},1,2,3"), ("line 201", "4 cells", "3 columns")),
    ("a row without its timestamp", _middle(",1,2"), ("line 201", "no timestamp")),
    ("a timestamp that is a text", _middle("soon,1,2"), ("line 201", "'soon' is no timestamp")),
    ("a month 13", _middle("2024-13-09 07:00:00,1,2"), ("line 201", "'2024-13-09 07:00:00' is no timestamp")),
    ("the 30th of February", _middle("2024-02-30 07:00:00,1,2"), ("line 201", "'2024-02-30 07:00:00'")),
    ("an hour 25", _middle("2024-01-09 25:00:00,1,2"), ("line 201", "'2024-01-09 25:00:00'")),
    ("another style of date", _middle("09.01.2024 07:00,1,2"), ("line 201", "'09.01.2024 07:00' is no timestamp")),
    ("an offset in one row", _middle(f"{_ROW}+01:00,1,2"), ("line 201", "+01:00' is no timestamp")),
    ("a header in the middle", _middle("date,OT,load"), ("line 201", "'date' is no timestamp")),
    ("a sum in the middle", _middle("Total,1,2"), ("line 201", "'Total' is no timestamp")),
    ("a row twice with other values", _middle(f"{_ROW},1,2", f"{_ROW},3,4"), ("line 202", "another row", "--duplicates")),
    ("half an hour between two rows", _middle(f"{_ROW},1,2", "2024-01-09 07:30:00,1,2"), ("line 202", "irregular")),
    ("a row two minutes late", _middle("2024-01-09 07:02:00,1,2"), ("line 201", "irregular", "--snap 1h")),
    ("an unclosed quotation mark", _middle(f'{_ROW},"1,2'), ("quotation mark",)),
    ("semicolons in the middle", _middle(f"{_ROW};1;2"), ("line 201", "no timestamp")),
    ("a header that is a sentence", _all("date,OT,load", "Readings of station 7"), ("3 cells", "1 columns")),
    ("an unnamed target", _all("date,OT,load", "date,,load"), ("OT",)),
]  # fmt: skip

_NOT_READ_BY_EVAL: list[tuple[str, Spoil, tuple[str, ...]]] = [
    ("several columns without a name", _both_unnamed, ("has values but no name",)),
]

_MENDED_BY_FILLING: list[tuple[str, Spoil, tuple[str, ...]]] = [
    ("a gap", _middle(), ("line 201", "a gap", "--fill linear")),
    ("an empty cell", _middle(f"{_ROW},,2"), ("line 201", "column 'OT'", "empty", "--fill linear")),
    ("a cell that is missing", _middle(f"{_ROW},1"), ("line 201", "column 'load'", "empty")),
    ("a dash", _middle(f"{_ROW},-,2"), ("line 201", "column 'OT'", "empty")),
    ("a spreadsheet's error", _middle(f"{_ROW},#DIV/0!,2"), ("line 201", "column 'OT'", "empty")),
    ("a row twice, equal", _middle(f"{_ROW},1,2", f"{_ROW},1,2"), ("line 202", "another row", "equal")),
]

_UNCOUNTED = (
    "one cell too many", "a row without its timestamp", "a timestamp that is a text", "a month 13", "the 30th of February",
    "an hour 25", "another style of date", "an offset in one row", "a header in the middle", "a sum in the middle",
    "an unclosed quotation mark", "semicolons in the middle", "several columns without a name",
    "a header that is a sentence", "an unnamed target",
)  # fmt: skip
"""Without columns and timestamps there is nothing to count, so `inspect` refuses these as the others do."""

TABLE_CASES = [
    case
    for name, spoil, words in (*_FAULTS, *_NOT_READ_BY_EVAL, *_MENDED_BY_FILLING)
    for case in (
        Case(f"{name}, trained on", _TRAIN, 3, words, spoil),
        Case(f"{name}, inspected", _INSPECT, 3 if name in _UNCOUNTED else 0, words, spoil),
        *([Case(f"{name}, scored on", _EVAL, 3, words, spoil)] if (name, spoil, words) in _FAULTS else []),
    )
]
