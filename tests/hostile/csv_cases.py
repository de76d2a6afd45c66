"""CSVs that cannot be read, or not as they are."""

from pathlib import Path

from tests.hostile.case import INSPECT, SHORT, SMALL, TRAIN, Case, Spoil, replace, write

PREDICT = ("predict", "best.pt", "data.csv", "--device", "cpu", "-o", "out.csv")
_RUN = (*TRAIN, *SMALL, *SHORT)


def _line(number: int, text: str) -> Spoil:
    """Replaces a line of data.csv, counted from 1."""

    def spoil(folder: Path) -> None:
        path = folder / "data.csv"
        lines = path.read_text(encoding="utf-8").splitlines()
        lines[number - 1] = text
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    return spoil


def _without(number: int) -> Spoil:
    """Takes a line of data.csv away."""

    def spoil(folder: Path) -> None:
        lines = (folder / "data.csv").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / "data.csv").write_text("".join(lines[: number - 1] + lines[number:]), encoding="utf-8")

    return spoil


CSV_CASES = [
    Case("no file", ("predict", "best.pt", "dat.csv"), 3, ("'dat.csv' not found", "did you mean 'data.csv'")),
    Case("no folder", ("predict", "best.pt", "nowhere/data.csv"), 3, ("no folder 'nowhere'",)),
    Case("a folder", ("predict", "best.pt", "llm"), 3, ("the folder 'llm' has no CSV file",)),
    Case("empty", PREDICT, 3, ("is empty", "first line must name the columns"), write("data.csv", "")),
    Case("blank lines alone", PREDICT, 3, ("is empty",), write("data.csv", "\n\n \n")),
    Case("a header alone", PREDICT, 3, ("has a header but no rows",), write("data.csv", "date,OT,load\n")),
    Case("an Excel workbook", PREDICT, 3, ("an Excel workbook", "export it as CSV"), write("data.csv", b"PK\3\4" + b"\0" * 99)),
    Case("a broken Parquet file", PREDICT, 3, ("no valid Parquet file",), write("data.csv", b"PAR1" + b"\0" * 99)),
    Case("a broken gzip archive", PREDICT, 3, ("cannot be read", "check the file"), write("data.csv", b"\x1f\x8b" + b"\0" * 99)),
    Case("binary noise", PREDICT, 3, ("binary file, not a CSV",), write("data.csv", bytes(range(256)) * 40)),
    Case("no date column", PREDICT, 3, ("no column 'date'", "'when', 'OT', 'load'"), replace("data.csv", "date", "when")),
    Case("a missing channel", PREDICT, 3, ("load",), replace("data.csv", "load", "loads")),
    Case("a name twice", PREDICT, 3, ("no column 'load'", "'OT', 'OT'"), replace("data.csv", "date,OT,load", "date,OT,OT")),
    Case("a text among numbers", PREDICT, 3, ("line 399", "column 'OT'", "'many' is no number"), _line(399, "2024-01-17 13:00:00,many,1")),
    Case("a decimal comma", PREDICT, 3, ("line 399", "4 cells", "3 columns"), _line(399, "2024-01-17 13:00:00,1,5,1")),
    Case("an infinite value", PREDICT, 3, ("line 399", "infinite"), _line(399, "2024-01-17 13:00:00,inf,1")),
    Case("a value beyond float64", PREDICT, 3, ("line 399", "infinite"), _line(399, "2024-01-17 13:00:00,1e999,1")),
    Case("a value beyond float32", PREDICT, 3, ("column 'OT'", "deviations from the mean", "1e+15"), _line(399, "2024-01-17 13:00:00,1e300,1")),
    Case("an empty cell", PREDICT, 3, ("line 399", "empty", "--fill linear"), _line(399, "2024-01-17 13:00:00,,1")),
    Case("no timestamp", PREDICT, 3, ("line 399", "soon"), _line(399, "soon,1,1")),
    Case("the 30th of February", PREDICT, 3, ("line 399", "2024-02-30"), _line(399, "2024-02-30 13:00:00,1,1")),
    Case("a timestamp twice", PREDICT, 3, ("2024-01-17 12:00:00 is that of another row",), _line(399, "2024-01-17 12:00:00,1,1")),
    Case("uneven steps of time", PREDICT, 3, ("irregular timestamps", "90 minutes", "1 hour"), replace("data.csv", "2024-01-17 12:00:00", "2024-01-17 12:30:00")),
    Case("a gap", PREDICT, 3, ("--fill linear",), _without(398)),
    Case("an unclosed quotation mark", PREDICT, 3, ("quotation mark",), replace("data.csv", "2024-01-16 00:00:00", '"2024-01-16 00:00:00')),
    Case("too few rows to forecast from", PREDICT, 3, ("48", "10"), write("data.csv", "date,OT,load\n" + "".join(f"2024-01-01 {h:02d}:00:00,1,2\n" for h in range(10)))),
    Case("too few rows to train on", _RUN, 3, ("too few rows", "60", "10"), write("data.csv", "date,OT,load\n" + "".join(f"2024-01-01 {h:02d}:00:00,1,2\n" for h in range(10)))),
    Case("no target column", (*_RUN, "--target", "OT"), 3, ("OT",), replace("data.csv", "OT", "Oil")),
    Case("no target, in inspect", (*INSPECT, "--target", "OT"), 3, ("OT", "Oil"), replace("data.csv", "OT", "Oil")),
    Case("columns that are not there", (*_RUN, "--columns", "OT,lod"), 3, ("'lod'", "did you mean 'load'")),
    Case("a time that is not there", (*PREDICT, "--at", "2031-01-01"), 3, ("2031-01-01",)),
    Case("a time that is none", (*PREDICT, "--at", "yesterday"), 3, ("yesterday",)),
    Case("a time too early for a history", (*PREDICT, "--at", "2024-01-01 05:00"), 3, ("48", "6")),
]  # fmt: skip
