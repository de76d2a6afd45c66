"""Command-line flags made from the configuration's fields: one sentence is help, documentation and meaning. Light."""

import inspect
from collections.abc import Callable
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


def with_config_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command(settings, ...)` a flag for every configuration field, with --profile, --config and --set.

    The command is called with the resolved `Settings` first; its other parameters stay options of their own.
    """
    names = {key.replace(".", "__"): key for key in FIELDS}

    def wrapper(*, profile: str | None, config_file: Path | None, assignments: list[str] | None, **rest: Any) -> None:
        flags = {key: rest.pop(name) for name, key in names.items()}
        settings = resolve(profile, config_file, flags, assignments or ())
        command(settings, **rest)

    own = [parameter for parameter in inspect.signature(command).parameters.values() if parameter.name != "settings"]
    sources = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in (("profile", Profile), ("config_file", ConfigFile), ("assignments", Assignments))
    ]
    flags = [_flag_parameter(name, key) for name, key in names.items()]
    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    wrapper.__signature__ = inspect.Signature([*keyword_only, *sources, *flags])  # type: ignore[attr-defined]
    wrapper.__doc__ = command.__doc__
    wrapper.__name__ = command.__name__
    return wrapper


def _flag_parameter(name: str, key: str) -> inspect.Parameter:
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
    annotation = Annotated[bool | None, option] if is_switch else Annotated[str | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


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
