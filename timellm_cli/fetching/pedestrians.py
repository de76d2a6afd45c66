"""The demo data: the package's hourly counts, with one honest timestamp a row. Light.

The package labels a row with a day and an hour, but its days run from 06:00 to 05:59 under the date they begin on, and
a few labels of 2025 are wrong. The order of the rows is right, hour after hour of local time, and one hour is absent:
the one that clocks skipped when summer time began in 2024.
"""

import csv
from datetime import datetime, timedelta
from pathlib import Path

from timellm_cli.datasets import DATASETS
from timellm_cli.errors import DataError

FIRST_ROW = datetime(2019, 1, 1, 6)
ABSENT_HOUR = datetime(2024, 9, 29, 2)
KEPT = (datetime(2023, 1, 1, 0), datetime(2024, 12, 31, 23))


def write_pedestrians(source: Path, target: Path) -> None:
    """Write the kept rows as `date` and the sensors' counts; empty cells stay empty, the absent hour stays absent."""
    columns = list(DATASETS["auckland-pedestrians"].columns)
    with source.open(encoding="utf-8", newline="") as counts, target.open("w", encoding="utf-8", newline="") as output:
        rows = csv.reader(counts)
        header = next(rows)
        if header[3:] != columns:
            raise DataError(
                f"the columns of {source.name} are not the {len(columns)} sensors expected: {header[3:]}",
                "nothing was kept; give a CSV of your own with --data-path FILE.csv",
            )
        writer = csv.writer(output, lineterminator="\n")
        writer.writerow(["date", *columns])
        moment = FIRST_ROW
        for row in rows:
            if moment == ABSENT_HOUR:
                moment += timedelta(hours=1)
            if KEPT[0] <= moment <= KEPT[1]:
                writer.writerow([moment, *(cell.removesuffix(".0") for cell in row[3:])])
            moment += timedelta(hours=1)
