"""Small panels in the forms that people keep them in."""

import math
from datetime import datetime, timedelta
from pathlib import Path

IDS = ("Queen Street", "K Road", "Quay, west", "High St")
FIRST = datetime(2024, 1, 1)


def value(series: int, row: int) -> float:
    """A daily wave of each series' own level, size and phase, with a slow drift; exact to 3 decimals."""
    wave = math.sin(2 * math.pi * (row + 3 * series) / 24)
    return round((series + 1) * (10 + 3 * wave) + 0.01 * row + 0.3 * math.sin(row * (1.7 + series)), 3)


def stamp(row: int) -> str:
    return str(FIRST + timedelta(hours=row))


def write_long(path: Path, rows: dict[str, range] | None = None, by_time: bool = False) -> Path:
    """One line for each row of each series. `rows` says which each has, by default 400 each."""
    rows = rows or dict.fromkeys(IDS, range(400))
    lines = [(name, row) for name, own in rows.items() for row in own]
    lines = sorted(lines, key=lambda line: line[1]) if by_time else lines
    text = "".join(f'"{name}",{stamp(row)},{value(list(rows).index(name), row)}\n' for name, row in lines)
    path.write_text("unique_id,ds,y\n" + text, encoding="utf-8")
    return path


def write_wide(path: Path) -> Path:
    """A column for each series."""
    header = ",".join(f'"{name}"' for name in IDS)
    rows = "".join(f"{stamp(row)},{','.join(str(value(series, row)) for series in range(4))}\n" for row in range(400))
    path.write_text(f"ds,{header}\n{rows}", encoding="utf-8")
    return path


def write_folder(folder: Path) -> Path:
    """A file for each series."""
    folder.mkdir()
    for series, name in enumerate(IDS):
        rows = "".join(f"{stamp(row)},{value(series, row)}\n" for row in range(400))
        (folder / f"{series} {name}.csv").write_text(f"ds,y\n{rows}", encoding="utf-8")
    return folder


def write_lines(path: Path, lengths: tuple[int, ...] = (400, 300, 90, 20)) -> Path:
    """A line for each series, without dates, as in the M4 competition; the longest fills the header."""
    header = ",".join(f'"V{column}"' for column in range(1, max(lengths) + 2))
    lines = [
        f'"H{series + 1}",' + ",".join(str(value(series, row)) for row in range(length)) + "," * (max(lengths) - length)
        for series, length in enumerate(lengths)
    ]
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path
