"""Profiles, configuration files and flags that cannot be."""

from datetime import datetime, timedelta
from pathlib import Path

from tests.hostile.case import INSPECT, SHORT, SMALL, TRAIN, Case, replace, write

_RUN = (*TRAIN, *SMALL, *SHORT)
_FILE = (*INSPECT, "--config", "my.toml")

_LONG = "x" * 300
_TOO_LONG = {
    "a CSV": (*INSPECT, "--data-path", f"{_LONG}.csv"), "an LLM": (*INSPECT, "--llm", _LONG),
    "a configuration file": (*INSPECT, "--config", _LONG), "a checkpoint": ("eval", _LONG),
    "a history": ("predict", "best.pt", _LONG), "a report": ("eval", "best.pt", "--report", f"{_LONG}/a.html"),
    "an original": ("import", _LONG), "a run's last checkpoint": (*_RUN, "--resume", _LONG),
}  # fmt: skip
_LOOPS = (
    ("a CSV", ("predict", "best.pt", "loop"), 3, "'loop' not found"), ("a checkpoint", ("eval", "loop"), 4, "'loop' not found"),
    ("a configuration file", (*INSPECT, "--config", "loop"), 2, "Too many levels"),
    ("an output", ("predict", "best.pt", "data.csv", "-o", "loop"), 2, "loop"),
    ("the checkpoints' folder", (*_RUN, "--checkpoints", "loop"), 2, "loop"),
)  # fmt: skip
_UNKNOWN_USER = (
    ("a CSV", (*INSPECT, "--data-path", "~nobody-here/x"), 3), ("a checkpoint", ("eval", "~nobody-here/x"), 4),
    ("an output", ("predict", "best.pt", "data.csv", "-o", "~nobody-here/x"), 2),
)  # fmt: skip
_NO_UTF8 = (
    ("a CSV", ("predict", "best.pt", "b\udcffd"), 3), ("a checkpoint", ("eval", "b\udcffd"), 4),
    ("a configuration file", (*INSPECT, "--config", "b\udcffd"), 2),
)  # fmt: skip
_ESCAPE = (
    ("a CSV", ("predict", "best.pt", "\x1b[31m.csv"), 3), ("a checkpoint", ("eval", "\x1b[31m.pt"), 4),
    ("a configuration file", (*INSPECT, "--config", "\x1b[31m"), 2), ("a profile", ("inspect", "--profile", "\x1b[31m"), 2),
    ("an output", ("predict", "best.pt", "data.csv", "-o", "\x1b[31m/x"), 2),
)  # fmt: skip


def _link_to_itself(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")


def _move_to(path: Path, year: int) -> None:
    """Let the last row stand at the end of that year."""
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    first = datetime(year, 12, 31, 23) - timedelta(hours=len(lines) - 1)
    dated = (f"{first + timedelta(hours=row)},{line.split(',', 1)[1]}" for row, line in enumerate(lines))
    path.write_text("\n".join([header, *dated]) + "\n", encoding="utf-8")


SETTINGS_CASES = [
    Case("a profile with a typo", ("inspect", "--profile", "quikstart"), 2, ("did you mean 'quickstart'",)),
    Case("a profile that is a path", ("inspect", "--profile", "../data.csv"), 2, ("not found", "--config")),
    Case("no configuration file", _FILE, 2, ("'my.toml' not found",)),
    Case("a configuration file that is a folder", (*INSPECT, "--config", "llm"), 2, ("'llm' cannot be read",)),
    Case("broken TOML", _FILE, 2, ("no valid TOML", "line 1"), write("my.toml", "[train\nepochs = 3")),
    Case("TOML in UTF-16", _FILE, 2, ("no UTF-8 text",), write("my.toml", "[train]\nepochs = 3".encode("utf-16"))),
    Case("deeply nested TOML", _FILE, 2, ("my.toml",), write("my.toml", "a = " + "[" * 5000)),
    Case("an unknown section", _FILE, 2, ("[trian]", "did you mean 'train'"), write("my.toml", "[trian]\nepochs = 3")),
    Case("an unknown key", _FILE, 2, ("train.epoch ", "did you mean 'train.epochs'"), write("my.toml", "[train]\nepoch = 3")),
    Case("a section that is a number", _FILE, 2, ("expected a section [train]",), write("my.toml", "train = 3")),
    Case("three faults at once", _FILE, 2, ("3 faults", "epochs", "batch_size", "d_ff"), write("my.toml", '[train]\nepochs = 0\nbatch_size = "many"\n[model]\nd_ff = -1')),
    Case("a number that is none", (*INSPECT, "--learning-rate", "nan"), 2, ("learning_rate", "nan")),
    Case("a number without an end", (*INSPECT, "--epochs", "9" * 5000), 2, ("train.epochs",)),
    Case("ratios without validation", (*INSPECT, "--train-ratio", "0.8", "--test-ratio", "0.2"), 2, ("below 1",)),
    Case("patches longer than the window", (*INSPECT, "--seq-len", "8", "--patch-len", "64"), 2, ("64", "16")),
    Case("memory without a unit", (*INSPECT, "--vram", "6"), 2, ("GiB",)),
    Case("an unknown dataset", ("inspect", "--dataset", "ETTh3"), 2, ("did you mean", "ETTh")),
    Case("an assignment without a value", (*INSPECT, "--set", "train.epochs"), 2, ("section.key=value",)),
    Case("an assignment to nothing", (*INSPECT, "--set", "=3"), 2, ("no such key",)),
    Case("an unknown flag", (*INSPECT, "--epoch", "3"), 2, ("--epochs",)),
    Case("an unknown verb", ("trian",), 2, ("Did you mean 'train'",)),
    Case("a flag without a value", (*INSPECT, "--epochs"), 2, ("--epochs", "requires an argument")),
    Case("an unknown field of the prompt", (*INSPECT, "--prompt-template", "{maximum}"), 2, ("no field '{maximum}'",)),
    Case("an attribute in the prompt", (*INSPECT, "--prompt-template", "{min.__class__}"), 2, ("no field '{min.__class__}'",)),
    Case("an item in the prompt", (*INSPECT, "--prompt-template", "{lags[0]}"), 2, ("no field '{lags[0]}'",)),
    Case("a conversion in the prompt", (*INSPECT, "--prompt-template", "{min!r}"), 2, ("no field '{min!r}'",)),
    Case("an open brace in the prompt", (*INSPECT, "--prompt-template", "{min"), 2, ("prompt.template cannot be read",)),
    Case("an attribute in the run's name", (*_RUN, "--run-name", "{seq_len.__class__}"), 2, ("unknown key {seq_len.__class__}",)),
    Case("an unknown key in the run's name", (*_RUN, "--run-name", "{seqlen}"), 2, ("did you mean 'seq_len'",)),
    Case("a run without a name", (*_RUN, "--run-name", " .. "), 2, ("no folder name",)),
    Case("a run's name without an end", (*_RUN, "--run-name", "x" * 300), 2, ("1 to 200 characters",)),
    Case("checkpoints in a file's place", (*_RUN, "--checkpoints", "data.csv"), 2, ("data.csv", "--checkpoints")),
    Case("a run that is there", _RUN, 2, ("already holds a run", "--resume auto"), write("checkpoints/run/best.pt", b"x")),
    Case("resuming a file that is not there", (*_RUN, "--resume", "away.pt"), 4, ("'away.pt' not found",)),
    Case("more layers than there are", (*_RUN, "--layers", "9"), 4, ("9", "2 layers")),
    Case("more of the LLM's output than it has", (*_RUN, "--d-ff", "64"), 4, ("64", "32")),
    Case("a device that is not here", (*_RUN, "--device", "cuda"), 4, ("GPU",)),
    Case("a description that is too long", (*_RUN, "--description", "x" * 3000), 4, ("2,048", "shorten")),
    Case("an output that is the input", ("predict", "best.pt", "data.csv", "-o", "data.csv"), 2, ("data.csv",)),
    Case("an output in no folder", ("predict", "best.pt", "data.csv", "-o", "away/out.csv"), 2, ("away",)),
    Case("a picture that is no PNG", ("predict", "best.pt", "data.csv", "--plot", "out.jpg"), 2, ("PNG", "out.png")),
    Case("levels that are none", ("predict", "best.pt", "data.csv", "--levels", "high"), 2, ("'high'", "80,95")),
    Case("levels of a checkpoint without bands", ("predict", "best.pt", "data.csv", "--levels", "80"), 4, ("has no bands",)),
    Case("no step", ("predict", "best.pt", "data.csv", "--steps", "0"), 2, ("--steps", "greater than or equal")),
    Case("a report in place of a checkpoint", ("eval", "best.pt", "--report", "best.pt"), 2, ("best.pt",)),
    Case("steps beyond the calendar", ("predict", "best.pt", "data.csv", "--steps", "999999999"), 2, ("--steps", "1000000")),
    Case("steps beyond the year 9999", ("predict", "best.pt", "data.csv", "--steps", "12"), 3, ("beyond the year 9999",), lambda folder: _move_to(folder / "data.csv", 9999)),
    *(Case(f"{kind} with a name of 300 bytes", command, 2, ("cannot be", "File name too long")) for kind, command in _TOO_LONG.items()),
    *(Case(f"{kind} that is a link to itself", command, code, (words,), _link_to_itself) for kind, command, code, words in _LOOPS),
    *(Case(f"{kind} of a user whom nobody knows", command, code, ("~nobody-here/x",)) for kind, command, code in _UNKNOWN_USER),
    *(Case(f"{kind} whose name is no UTF-8", command, code, (r"b\xffd", "not found")) for kind, command, code in _NO_UTF8),
    *(Case(f"{kind} with an escape in its name", command, code, (r"\x1b[31m",)) for kind, command, code in _ESCAPE),
    Case("an escape in a header", (*_RUN, "--target", "OX"), 3, (r"\x1b]0;a\x07",), replace("data.csv", "load", "\x1b]0;a\x07")),
    Case("an escape in a cell", _RUN, 3, (r"\x1b[2J",), replace("data.csv", "10.", "\x1b[2J")),
    Case("an escape in a configuration file", _FILE, 2, (r"\x1b[2J",), write("my.toml", '[train]\nepochs = "\\u001b[2J"')),
    Case("an escape in a section's name", _FILE, 2, (r"\x1b[2J",), write("my.toml", '["\\u001b[2J"]\na = 1')),
    Case("an escape in an assignment", (*INSPECT, "--set", "\x1b[2J=1"), 2, (r"\x1b[2J",)),
    Case("an escape in a verb", ("\x1b[2J",), 2, (r"\x1b[2J",)),
    Case("a configuration file without an end", (*INSPECT, "--config", "/dev/zero"), 2, ("more than", "bytes")),
    Case("a NUL in a path", _FILE, 2, ("data.path", "NUL"), write("my.toml", '[data]\npath = "a\\u0000b"')),
    Case("a number that no float holds", (*INSPECT, "--d-ff", "1" + "0" * 400), 2, ("d_ff", "at most")),
    Case("a fetch of nothing known", ("fetch", "nothing-like-it"), 2, ("nothing-like-it",)),
    Case("data that are not there", ("eval", "best.pt", "--csv", "away.csv"), 3, ("'away.csv' not found",)),
    Case("a zone that nobody has", (*INSPECT, "--timezone", "Mars/Base"), 2, ("timezone", "Europe/Berlin")),
    Case("an encoding that nobody has", (*INSPECT, "--encoding", "utf-99"), 2, ("encoding", "utf-99")),
    Case("a length that is none", (*INSPECT, "--snap", "3weeks"), 2, ("snap", "10min")),
    Case("a decimal sign that is none", (*INSPECT, "--decimal", ";"), 2, ("decimal",)),
    Case("a thousands sign that is none", (*INSPECT, "--thousands", "x"), 2, ("thousands",)),
    Case("a filling that is none", (*INSPECT, "--fill", "cubic"), 2, ("fill", "linear")),
    Case("a way with duplicates that is none", (*INSPECT, "--duplicates", "all"), 2, ("duplicates", "mean")),
    Case("a calendar that is none", (*INSPECT, "--calendar", "lunar"), 2, ("calendar", "rows")),
    Case("fewer than no lines to skip", (*INSPECT, "--skip-rows", "-1"), 2, ("skip_rows",)),
    Case("more lines to skip than there are", (*INSPECT, "--skip-rows", "4000"), 3, ("data.csv",)),
    Case("a pattern that reads no date here", (*INSPECT, "--date-format", "%d/%m/%Y"), 3, ("2024-01-01 00:00:00", "no timestamp", "%d/%m/%Y")),
    Case("a column to leave out that is not there", (*INSPECT, "--exclude", "lod"), 3, ("'lod'", "did you mean 'load'")),
]  # fmt: skip
