"""The help of a verb: the options that matter first, with an example; all of them by --help-all. Light.

Each option has a line with its names and what it takes, and its meaning below. So nothing is cut, however narrow the
terminal is.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args, get_origin

from rich.console import RenderableType, group
from rich.padding import Padding
from rich.text import Text

from timellm_cli.console import as_is

FIRST: dict[str, tuple[str, ...]] = {
    "inspect": (
        "--profile", "--config", "--llm", "--layers", "--seq-len", "--pred-len", "--batch-size", "--gpu", "--explain",
        "--json",
    ),
    "train": (
        "--profile", "--config", "--llm", "--layers", "--seq-len", "--pred-len", "--batch-size", "--epochs",
        "--run-name", "--resume",
    ),
    "eval": (
        "--csv", "--split", "--zero-shot", "--limit", "--metrics", "--baselines", "--against", "--report", "--json",
        "--llm",
    ),
    "predict": (
        "--output", "--steps", "--at", "--levels", "--plot", "--json", "--llm", "--device", "--fill", "--offline",
    ),
    "import": (
        "--output", "--dataset", "--data-path", "--llm", "--layers", "--n-heads", "--batch-size", "--epochs",
        "--run-name", "--offline",
    ),
    "init": (
        "--output", "--date-column", "--target", "--columns", "--exclude", "--date-format", "--decimal", "--timezone",
        "--skip-rows", "--encoding",
    ),
}  # fmt: skip
"""The ten options of a verb that most people need, in the order in which they need them."""

EXAMPLES = {
    "inspect": "timellm inspect sales.csv --gpu 'RTX 4060'",
    "train": "timellm train sales.csv --seq-len 168 --pred-len 24",
    "eval": "timellm eval checkpoints/RUN/best.pt --report report.html",
    "predict": "timellm predict checkpoints/RUN/best.pt sales.csv",
    "fetch": "timellm fetch ETTh1 smollm2-135m",
    "import": "timellm import run.ps1",
    "m4": "timellm m4 f.csv --train Monthly-train.csv --test Monthly-test.csv",
    "init": "timellm init sales.csv",
    "runs": "timellm runs",
    "doctor": "timellm doctor",
    "push": "timellm push checkpoints/RUN owner/name",
    "pull": "timellm pull owner/name",
    "profiles": "timellm profiles show quickstart",
    "show": "timellm profiles show quickstart --set train.epochs=3",
}
_MOST_ON_A_PAGE = 14
_VALUES = {"int": "NUMBER", "float": "NUMBER", "path": "FILE", "str": "TEXT", "text": "TEXT"}


@group()
def help_page(command: Any, path: str, *, shows_all: bool) -> Iterator[RenderableType]:
    """The page of a command of Typer. `path` is how it is called, such as 'timellm train'."""
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    first = FIRST.get(str(command.name), ())
    shortened = not shows_all and len(options) > _MOST_ON_A_PAGE and bool(first)
    takes = [*(["COMMAND"] if getattr(command, "commands", {}) else []), *map(_takes, arguments)]
    yield Text(f"\nUsage: {' '.join((path, '[OPTIONS]', *takes))}\n")
    yield Padding(Text(_plain(command.help or "")), (0, 0, 1, 1), expand=False)
    if example := EXAMPLES.get(str(command.name)):
        yield Text.assemble(("Example", "bold cyan"), f"\n  {example}\n")
    if commands := getattr(command, "commands", {}):
        yield _entries("Commands", [(as_is(name, "bold"), one.help or "") for name, one in commands.items()])
    if arguments:
        yield _entries("Arguments", [(as_is(_takes(one), "bold"), _meaning(one)) for one in arguments])
    if shortened:
        named = [next(one for one in options if flag in one.opts) for flag in first]
        yield _entries(f"The {len(named)} options that matter first", map(_option, named))
        yield Text.assemble("  ", (f"--help-all shows all {len(options)} options.", "bold"), "\n")
        return
    panels = list(dict.fromkeys(getattr(one, "rich_help_panel", None) or "" for one in options))
    for panel in panels:
        own = [one for one in options if (getattr(one, "rich_help_panel", None) or "") == panel]
        yield _entries(f"Options of [{panel}]" if panel else "Options", map(_option, own))


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _entries(title: str, rows: Any) -> RenderableType:
    lines: list[RenderableType] = [Text(title, style="bold cyan")]
    for name, meaning in rows:
        lines += [
            Padding(name, (0, 0, 0, 2), expand=False),
            Padding(Text(_plain(meaning)), (0, 0, 0, 6), expand=False),
        ]
    return _stack([*lines, Text("")])


@group()
def _stack(lines: Sequence[RenderableType]) -> Iterator[RenderableType]:
    yield from lines


def _option(one: Any) -> tuple[Text, str]:
    names = ", ".join([*sorted(one.opts, key=len), *one.secondary_opts])
    takes = "" if one.is_flag else _takes(one)
    return Text.assemble(as_is(names, "bold"), as_is(f" {takes}" if takes else "")), _meaning(one)


def _takes(one: Any) -> str:
    """What a value is: its name, or the choices there are."""
    if one.metavar:
        return str(one.metavar)
    # Typer says what a value is in `type_descriptor`; before its version 0.26 in click's `type`.
    kind = getattr(getattr(one, "type_descriptor", None), "annotation", None)
    choices = get_args(kind) if get_origin(kind) is Literal else getattr(getattr(one, "type", None), "choices", ())
    if choices:
        return "|".join(map(str, choices))
    name = getattr(kind, "__name__", "") or str(getattr(getattr(one, "type", None), "name", ""))
    return next((shown for start, shown in _VALUES.items() if name.lower().startswith(start)), str(one.name).upper())


def _meaning(one: Any) -> str:
    text = (one.help or "").replace("\\[", "[")
    default = one.default
    is_shown = getattr(one, "show_default", False) and default not in (None, False, True, ()) and not callable(default)
    variable = f" [variable {one.envvar}]" if getattr(one, "envvar", None) else ""
    return text + (f" [{default}]" if is_shown else "") + variable
