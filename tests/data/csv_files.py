"""Small CSV files for the tests of this folder."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from timellm_cli.config import DataConfig

CUSTOM = DataConfig(dataset="custom")
FILL = DataConfig(dataset="custom", fill="linear")


def hourly(rows: int, first: str = "2024-01-01 00:00:00") -> list[str]:
    """Timestamps of `rows` hours."""
    start = datetime.fromisoformat(first)
    return [str(start + timedelta(hours=row)) for row in range(rows)]


def write_csv(path: Path, header: str, lines: Sequence[str], encoding: str = "utf-8", end: str = "\n") -> Path:
    """Write header and lines with the given line end."""
    path.write_bytes((end.join([header, *lines]) + end).encode(encoding))
    return path


def daily_lines() -> list[str]:
    """Ten good rows of `date,load,OT`: line 2 of the file is 2024-01-01."""
    return [f"2024-01-{day:02},{day}.5,{day * day}" for day in range(1, 11)]
