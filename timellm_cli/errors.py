"""The errors that users see: a message, a hint and an exit code. Light: standard library only."""

from collections.abc import Iterable
from difflib import get_close_matches
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every command."""

    DONE = 0
    USAGE = 2
    DATA = 3
    MODEL = 4
    INTERRUPTED = 130


class TimellmError(Exception):
    """A user's mistake, or something that is missing. `cli.main` prints it without a traceback.

    The message says what failed, with the numbers on both sides. The hint says what to do about it.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(TimellmError):
    """A flag, a profile or a configuration file is wrong."""


class DataError(TimellmError):
    """The CSV, or the requested part of it, cannot be used."""

    exit_code = ExitCode.DATA


class ModelError(TimellmError):
    """The LLM, a checkpoint or the hardware cannot do what was requested."""

    exit_code = ExitCode.MODEL


class Interrupted(TimellmError):
    """Ctrl-C or SIGTERM. The work so far has been saved."""

    exit_code = ExitCode.INTERRUPTED


def listed(names: Iterable[str], most: int) -> str:
    """At most `most` names, separated by commas: 'a, b and 7 more'."""
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")


def quoted(names: Iterable[str], most: int = 12) -> str:
    """As `listed`, each name in quotation marks: names may hold commas and blanks."""
    return listed((f"'{name}'" for name in names), most)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'seq_len'?` where a known name is similar, else the empty string."""
    by_lower = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[near[0]]}'?" if near else ""
