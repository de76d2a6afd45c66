"""Command-line flags made from the configuration's fields: one sentence is help, documentation and meaning. Light."""

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from timellm_cli.completion import OF_KEYS, configurations, llms, profiles_that, tables
from timellm_cli.config import FIELDS, flag_of
from timellm_cli.config_fields import check_device
from timellm_cli.errors import ConfigError
from timellm_cli.lang.choice import VARIABLE
from timellm_cli.settings import name_file, resolve

Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        help="Start from a shipped profile; `timellm profiles` lists them.",
        metavar="NAME",
        autocompletion=profiles_that,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE.toml", autocompletion=configurations, help="Start from your own TOML file."),
]
File = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE.csv",
        autocompletion=tables,
        show_default=False,
        help="Your CSV, under profile `custom` unless another is named; or a known dataset's name.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Language = Annotated[
    Literal["en", "zh"] | None,
    typer.Option("--lang", envvar=VARIABLE, help="Language of messages. Default: that of the locale."),
]


def _offer(choices: tuple[str, ...]) -> Callable[[str], list[str]] | None:
    if not choices:
        return None
    return lambda incomplete: [choice for choice in choices if choice.startswith(incomplete)]


def _processor(value: str) -> str:
    """What is no device is refused with what to say instead."""
    try:
        check_device(value)
    except ValueError as error:
        raise ConfigError(f"--device {value}: {error}") from None
    if value not in _PROCESSORS:
        raise ConfigError(f"--device {value}: input should be 'auto', 'cpu' or 'cuda'")
    return value


_PROCESSORS = ("auto", "cpu", "cuda")
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(
        "--device",
        parser=_processor,
        metavar="auto|cpu|cuda",
        autocompletion=_offer(_PROCESSORS),
        help="Where to compute.",
    ),
]
MovedLLM = Annotated[
    str | None,
    typer.Option(
        "--llm",
        metavar="FOLDER",
        autocompletion=llms,
        help="The checkpoint's LLM, where it has moved.",
    ),
]
Offline = Annotated[bool, typer.Option("--offline", envvar="TIMELLM_OFFLINE", help="Never download anything.")]
Processes = Annotated[
    int | None,
    typer.Option("--processes", min=1, help="Share each batch out to so many processes, one a GPU; see the docs."),
]
EvaluatingProcesses = Annotated[
    int | None,
    typer.Option("--processes", min=1, help="Share the windows out to so many processes, one a GPU."),
]
PlannedProcesses = Annotated[
    int, typer.Option("--processes", min=1, help="Plan for so many processes that share each batch.")
]
PanelProcesses = Annotated[
    int | None,
    typer.Option(
        "--processes",
        min=1,
        max=1024,
        metavar="N",
        help="Share many series out to N processes, one a GPU; stopped, the same command goes on. Needs -o.",
    ),
]
Network = Annotated[str, typer.Option("--network", metavar="25Gbit", help="The slowest link between the processes.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Set any key; wins over everything else.")
]


Plain = Annotated[
    bool | None,
    typer.Option(
        "--plain",
        show_default=False,
        help="Switch off all that is only for speed: CUDA graphs, Triton, our own decoder, the kept prefix, prepared "
        "files. Forecasts stay the same; use it to narrow down a fault.",
    ),
]
DayFirst = Annotated[
    bool | None,
    typer.Option(
        "--dayfirst/--monthfirst",
        show_default=False,
        rich_help_panel="data",
        help="Dates such as 02/03/2024 have the day first, or the month: short for --date-format dayfirst.",
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
READING = tuple(
    f"data.{name}"
    for name in (
        "fill", "duplicates", "date_column", "date_format", "timezone", "snap", "decimal", "thousands", "na",
        "skip_rows", "encoding", "closed_on", "id_column",
    )
)  # fmt: skip
"""Keys that say how a file is read; a checkpoint's file may be written otherwise than the one it was trained on."""


KNOWN_AHEAD = ("ahead.events", "ahead.llm")
"""Keys of what is known of the days ahead that may have changed, or moved, since the training."""


def with_config_flags(command: Callable[..., None], *, takes_file: bool = False) -> Callable[..., None]:
    """Give `command(settings=..., ...)` a flag for every configuration field, and --profile, --config, --set, --plain.

    `settings` are resolved `Settings`; the command's other parameters stay options of their own. With `takes_file`
    there is a plain argument as well, for the data.
    """

    def wrapper(
        *,
        profile: str | None,
        config_file: Path | None,
        assignments: list[str] | None,
        plain: bool | None,
        dayfirst: bool | None,
        file: str | None = None,
        **rest: Any,
    ) -> None:
        flags = _with_short_flags(_take_flags(rest, FIELDS), plain, dayfirst)
        profile, flags = name_file(file, profile, config_file, flags, assignments or ())
        command(settings=resolve(profile, config_file, flags, assignments or ()), **rest)

    sources = {"profile": Profile, "config_file": ConfigFile, "assignments": Assignments, **_SHORT}
    return _wrap(command, wrapper, "settings", ({"file": File} if takes_file else {}) | sources, FIELDS)


def with_file_and_config_flags(command: Callable[..., None]) -> Callable[..., None]:
    """As `with_config_flags`, with a plain argument for the data."""
    return with_config_flags(command, takes_file=True)


def with_checkpoint_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command(changes=..., ...)` a flag for every key in `COMPUTING`, `READING` and `KNOWN_AHEAD`, and
    --plain.

    `changes` holds the user's values by key; it is empty where none is given.
    """

    def wrapper(*, plain: bool | None, dayfirst: bool | None, **rest: Any) -> None:
        flags = _with_short_flags(_take_flags(rest, (*COMPUTING, *READING, *KNOWN_AHEAD)), plain, dayfirst)
        checked = resolve(None, None, flags).config.values()
        command(changes={key: checked[key] for key in flags}, **rest)

    return _wrap(command, wrapper, "changes", _SHORT, (*COMPUTING, *READING, *KNOWN_AHEAD))


_SHORT = {"plain": Plain, "dayfirst": DayFirst}
"""Flags that set keys which have flags of their own."""


def _with_short_flags(flags: dict[str, Any], plain: bool | None, dayfirst: bool | None) -> dict[str, Any]:
    """The values of flags by key, with those of the short ones. Raises ConfigError where two contradict each other."""
    if dayfirst is not None:
        short = "dayfirst" if dayfirst else "monthfirst"
        form = flags.setdefault("data.date_format", short)
        if form != short:
            raise ConfigError(f"--{short} and --date-format {form} both say how dates are written", "give one of them")
    return {**(PLAIN if plain else {}), **flags}


def _wrap(
    command: Callable[..., None], wrapper: Callable[..., None], made: str, extra: dict[str, Any], keys: Iterable[str]
) -> Callable[..., None]:
    """`wrapper` under the name of `command`, with its parameters (without `made`), `extra`, and a flag for each key."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [value.replace(kind=keyword) for name, value in inspect.signature(command).parameters.items() if name != made]
    added = extra | {key.replace(".", "__"): _flag(key) for key in keys}
    options = [inspect.Parameter(name, keyword, default=None, annotation=option) for name, option in added.items()]
    wrapper.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    wrapper.__doc__, wrapper.__name__ = command.__doc__, command.__name__
    return wrapper


def _take_flags(arguments: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Remove the flags of `keys` from `arguments`; returns those that the user gave, by key."""
    flags = {key: arguments.pop(key.replace(".", "__")) for key in keys}
    return {key: value for key, value in flags.items() if value is not None}


def _flag(key: str) -> Any:
    field, flag = FIELDS[key], flag_of(key)
    is_switch = field.annotation is bool
    option = typer.Option(
        f"{flag}/--no-{flag.removeprefix('--')}" if is_switch else flag,
        metavar=None if is_switch else _metavar(field),
        help=f"{field.description} \\[{_default(field)}]",
        rich_help_panel=key.split(".", maxsplit=1)[0],
        show_default=False,
        autocompletion=None if is_switch else OF_KEYS.get(key) or _offer(_choices(field)),
    )
    return Annotated[bool | None if is_switch else str | None, option]


def _choices(field: FieldInfo) -> tuple[str, ...]:
    """The fixed values that a field may have, beside others or alone."""
    kinds = (field.annotation, *get_args(field.annotation))
    return tuple(str(choice) for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind))


def _metavar(field: FieldInfo) -> str:
    """What the value is: the choices, a number, a file; or several of them."""
    choices, kinds = "|".join(_choices(field)), str(field.annotation)
    if get_origin(field.annotation) is Literal:
        return choices
    shown = {"int": "NUMBER", "float": "NUMBER", "Path": "FILE", "tuple": "NAME,NAME"}
    taken = next((value for kind, value in shown.items() if kind in kinds), "TEXT")
    return f"{choices}|{taken}" if choices else taken


def _default(field: FieldInfo) -> str:
    default = field.default
    if default in (None, ()):
        return "unset"
    text = str(default)
    return text if len(text) <= 60 else "see `timellm profiles show`"
