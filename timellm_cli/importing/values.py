"""Values of old arguments: numbers, paths of another system, and comments that a value belies. Light."""

import os
import re
from pathlib import Path, PureWindowsPath
from typing import Any

from timellm_cli.importing.commands import Argument


def belie(argument: Argument) -> str:
    """What a comment beside a value says that the value belies, such as '# lower to 4 on OOM' beside 2; or nothing."""
    value, comment = rate(argument.value or ""), argument.comment
    lower = re.search(r"(?:lower|reduce|decrease|drop|降|减|改小)\D{0,20}?(\d+)", comment, re.IGNORECASE)
    higher = re.search(r"(?:raise|increase|enlarge|提高|增|加大)\D{0,20}?(\d+)", comment, re.IGNORECASE)
    if value is not None and lower and value <= int(lower[1]):
        is_equal = "that already" if value == int(lower[1]) else "lower already"
        return f"its comment says '{comment}', but {argument.value} is {is_equal}"
    if value is not None and higher and value >= int(higher[1]):
        return f"its comment says '{comment}', but {argument.value} is not lower"
    return ""


def here(path: str) -> str:
    """A path as this system writes it: a relative one of Windows gets slashes."""
    windows = PureWindowsPath(path)
    if os.name == "posix" and "\\" in path and not windows.drive and not Path(path).exists():
        return os.path.normpath(windows.as_posix())
    return path if windows.drive else os.path.normpath(path)


def number(value: Any) -> Any:
    """A text that is a number as one; TOML tells them apart."""
    if isinstance(value, str) and re.fullmatch(r"-?\d+", value):
        return int(value)
    if isinstance(value, str) and (as_float := rate(value)) is not None:
        return as_float
    return value


def rate(text: str) -> float | None:
    """A text as a number, None for what is none."""
    try:
        return float(text)
    except ValueError:
        return None


def whole(text: str | None) -> int | None:
    """A text as a count, None for what is none."""
    return int(text) if text and text.isdecimal() else None
