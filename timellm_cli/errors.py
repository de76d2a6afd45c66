"""The errors that users see: a message, a hint and an exit code. Light: standard library only."""

import errno
import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every command, by what has to change before the same command can succeed."""

    DONE = 0
    BUG = 1
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
        self.message, self.hint = visible(message), visible(hint)


class ConfigError(TimellmError):
    """A flag, a profile, a configuration file or a path is wrong."""


class DataError(TimellmError):
    """The CSV, or the requested part of it, cannot be used."""

    exit_code = ExitCode.DATA


class ModelError(TimellmError):
    """The LLM, a checkpoint or the hardware cannot do what was requested."""

    exit_code = ExitCode.MODEL


class SaidElsewhere(TimellmError):
    """What another process of the same command says for all: nothing is printed here."""

    def __init__(self, exit_code: ExitCode = ExitCode.MODEL) -> None:
        super().__init__("")
        self.exit_code = exit_code


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


UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """The text as it may be shown on a terminal: what would control it becomes an escape, such as \\x1b.

    That are all control characters but tab and line feed, those that turn the direction of writing, and bytes that are
    no UTF-8 (lone surrogates).
    """
    return UNSEEN.sub(lambda match: _escape(ord(match[0])), text)


def _escape(code: int) -> str:
    is_byte = code < 0x100 or 0xDC80 <= code <= 0xDCFF  # how Python keeps a file name's byte that is no UTF-8
    return f"\\x{code & 0xFF:02x}" if is_byte else f"\\u{code:04x}"


_OF_MEMORY = re.compile(
    "out of memory|allocate memory|not enough memory|failed to map segment|can't start new thread", re.IGNORECASE
)
_OF_PATHS = re.compile("Symlink loop|Could not determine home directory|embedded null")
_NEED_LESS = "use a smaller --batch-size, fewer --layers or a smaller --llm; `timellm inspect` shows what a run needs"


def as_users_error(error: BaseException) -> TimellmError | None:
    """An error of the system as a sentence about what a user can change; None for what can only be a bug.

    The last resort behind the checks that know more about what was tried.
    """
    text, found = str(error), None
    is_of_memory = isinstance(error, RuntimeError | OSError | ImportError) and _OF_MEMORY.search(text)
    match error:
        case TimellmError():
            found = error
        case _ if is_of_memory or isinstance(error, MemoryError):
            found = ModelError(f"out of memory: {text or 'the computer has too little RAM for this'}", _NEED_LESS)
        case RecursionError():
            found = ConfigError("an input is nested too deeply to be read", "look for long rows of brackets in it")
        case UnicodeEncodeError():
            found = ConfigError(f"'{error.object[:200]}' is no UTF-8 text", "give it a name in UTF-8")
        case UnicodeError():
            found = DataError(f"a text is no UTF-8: {text}", "save the file as UTF-8")
        case OSError():
            found = _of_system(error)
        case ImportError():
            found = ModelError(f"a package that is needed cannot be used: {text}", "install it again with pip")
        case RuntimeError() | ValueError() if _OF_PATHS.search(text):
            found = ConfigError(f"a path cannot be used: {text}", "give another path")
    return found


def _of_system(error: OSError) -> TimellmError:
    what, path = error.strerror or str(error) or type(error).__name__, error.filename
    if isinstance(path, str | bytes):
        return ConfigError(f"'{os.fsdecode(path)}' cannot be used: {what}", "check the path and its permissions")
    if error.errno == errno.ENOENT:  # of a path there would be a name
        return ConfigError("the folder that this command runs in does not exist any more", "change to another folder")
    if error.errno == errno.ENOSPC:
        return ModelError(f"the disk is full: {what}", "free some space")
    return ModelError(f"the operating system refused: {what}", "`timellm --debug` shows where that happened")
