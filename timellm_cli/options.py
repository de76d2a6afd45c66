"""Command-line flags made from the configuration's fields: one sentence is help, documentation and meaning. Light."""

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from timellm_cli.config import FIELDS, flag_of
from timellm_cli.settings import profile_names, resolve

Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        help="Start from a shipped profile; `timellm profiles` lists them.",
        autocompletion=lambda incomplete: [name for name in profile_names() if name.startswith(incomplete)],
    ),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Start from your own TOML file.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Set any key; wins over everything else.")
]


Plain = Annotated[
    bool,
    typer.Option(
        "--plain",
        help="Switch off all that is only for speed: CUDA graphs, Triton, our own decoder, the kept prefix, prepared "
        "files. Forecasts stay the same; use it to narrow down a fault.",
    ),
]
PLAIN = {
    "hardware.capture": "off",
    "hardware.kernels": "torch",
    "hardware.keep_prefix": False,
    "hardware.prepared": False,
    "llm.implementation": "transformers",
}
"""What `--plain` sets. A flag of its own wins over it."""
COMPUTING = (*PLAIN, "hardware.recompute")
"""Keys that decide how a forecast is computed, and change nothing else."""


def with_config_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command(settings, ...)` a flag for every configuration field, with --profile, --config, --set and --plain.

    The command is called with the resolved `Settings` first; its other parameters stay options of their own.
    """

    def wrapper(
        *, profile: str | None, config_file: Path | None, assignments: list[str] | None, plain: bool, **rest: Any
    ) -> None:
        flags = _take_flags(rest, FIELDS)
        command(resolve(profile, config_file, {**(PLAIN if plain else {}), **flags}, assignments or ()), **rest)

    sources = [
        _keyword(name, annotation)
        for name, annotation in (("profile", Profile), ("config_file", ConfigFile), ("assignments", Assignments))
    ]
    return _wrap(command, wrapper, "settings", [*sources, _keyword("plain", Plain, False)], FIELDS)


def with_computing_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command(computing=..., ...)` a flag for every key in `COMPUTING`, and --plain.

    `computing` holds the user's values by key; it is empty where none is given.
    """

    def wrapper(*, plain: bool, **rest: Any) -> None:
        flags = {**(PLAIN if plain else {}), **_take_flags(rest, COMPUTING)}
        checked = resolve(None, None, flags).config.values()
        command(computing={key: checked[key] for key in flags}, **rest)

    return _wrap(command, wrapper, "computing", [_keyword("plain", Plain, False)], COMPUTING)


def _wrap(
    command: Callable[..., None],
    wrapper: Callable[..., None],
    made: str,
    extra: list[inspect.Parameter],
    keys: Iterable[str],
) -> Callable[..., None]:
    """`wrapper` under the name of `command`, with its parameters (without `made`), `extra`, and a flag for each key."""
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(command).parameters.values()
        if parameter.name != made
    ]
    wrapper.__signature__ = inspect.Signature([*own, *extra, *map(_flag_parameter, keys)])  # type: ignore[attr-defined]
    wrapper.__doc__, wrapper.__name__ = command.__doc__, command.__name__
    return wrapper


def _take_flags(arguments: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Remove the flags of `keys` from `arguments`; returns those that the user gave, by key."""
    flags = {key: arguments.pop(key.replace(".", "__")) for key in keys}
    return {key: value for key, value in flags.items() if value is not None}


def _keyword(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _flag_parameter(key: str) -> inspect.Parameter:
    section, field_name = key.split(".")
    field = FIELDS[key]
    flag = flag_of(field_name, field)
    is_switch = field.annotation is bool
    option = typer.Option(
        f"{flag}/--no-{flag.removeprefix('--')}" if is_switch else flag,
        metavar=None if is_switch else _metavar(field),
        help=f"{field.description} \\[{_default(field)}]",
        rich_help_panel=section,
        show_default=False,
    )
    return _keyword(key.replace(".", "__"), Annotated[bool | None if is_switch else str | None, option])


def _metavar(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return "|".join(map(str, get_args(field.annotation)))
    text = str(field.annotation)
    kinds = [kind for kind in ("int", "float", "Path", "str") if kind in text]
    return {"Path": "PATH", "int": "INT", "float": "NUMBER"}.get(kinds[0] if kinds else "", "TEXT")


def _default(field: FieldInfo) -> str:
    default = field.default
    if default in (None, ()):
        return "unset"
    text = str(default)
    return text if len(text) <= 60 else "see `timellm profiles show`"
