"""Sizes, durations, counts and lists of names as people write them. Light: standard library only."""

import csv
import re
from datetime import timedelta

_FACTORS = {"k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
GIB = 2**30


def parse_memory(text: str) -> int:
    """Bytes in a size such as '6GiB', '512 MB' or '6g'. Raises ValueError for anything else, a bare number included."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?)b?\s*", text.lower())
    if not match or float(match[1]) == 0:
        raise ValueError(f"'{text}' is no memory size; write it like 6GiB or 512MB")
    return int(float(match[1]) * _FACTORS[match[2]])


def format_memory(size: float) -> str:
    """A size in bytes as '5.21 GiB', '96 MiB' or '12 KiB'."""
    if size >= GIB:
        return f"{size / GIB:.2f} GiB"
    if size >= 2**20:
        return f"{size / 2**20:.0f} MiB"
    return f"{size / 2**10:.0f} KiB"


def format_duration(seconds: float) -> str:
    """A duration to the second: '1:23:45', '2 days, 0:00:10'."""
    return str(timedelta(seconds=round(seconds)))


def format_count(number: int, noun: str) -> str:
    """A number of things: '1 channel', '1,200 channels'."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def format_change(value: float, reference: float) -> str:
    """How far a value is from a positive reference: '-4.5%', '0.0%', or '15 x' from ten times on; '-' without one."""
    if not reference > 0:
        return "-"
    ratio = value / reference
    percent = f"{ratio - 1:+.1%}"
    return f"{ratio:,.0f} x" if ratio >= 10 else percent.lstrip("+-") if float(percent[:-1]) == 0 else percent


def format_figure(value: float) -> str:
    """A figure of any size with about four digits, such as '0.01234', '12.35', '11,690' or '1.2e+09'."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"


def split_names(text: str) -> list[str]:
    """The names in a text, separated by commas; those that hold a comma are quoted as in CSV: 'a,"b,c"'."""
    try:
        names = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error:  # a line break: then quotation marks count as any character
        names = text.split(",")
    return [name.strip() for name in names if name.strip()]


def show_length(step: timedelta) -> str:
    """A step as people read it: `1 hour`, `15 minutes`, `2 days 12:00:00`, `0.015625 seconds`."""
    for unit, name in ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute")):
        if step >= unit and not step % unit:
            return f"{step // unit} {name}{'s' * (step != unit)}"
    seconds = step.total_seconds()
    return f"{seconds:g} second{'s' * (seconds != 1)}" if step < timedelta(minutes=1) else str(step)
