"""From defaults, profile, file, flags and `--set` to one configuration that knows where each value came from.

Light: standard library, pydantic and the configuration model.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from timellm_cli.config import FIELDS, SECTIONS, Config, flag_of
from timellm_cli.config_fields import nest
from timellm_cli.datasets import DATASETS
from timellm_cli.errors import ConfigError, did_you_mean, quoted

Values = dict[str, Any]
"""Values by `section.name`."""


@dataclass(frozen=True)
class Settings:
    """A resolved configuration and the origin of every value, by `section.name`.

    `notes` are sentences for the user on values that were found in the file.
    """

    config: Config
    origins: Mapping[str, str]
    notes: tuple[str, ...] = ()


def profiles_directory() -> Path:
    """Inside the wheel the profiles lie in the package; in a checkout, beside it."""
    packaged = Path(__file__).parent / "profiles"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "profiles"


def profile_names() -> list[str]:
    """Names of the shipped profiles, sorted."""
    return sorted(path.stem for path in profiles_directory().glob("*.toml"))


def profile_path(name: str) -> Path:
    """The file of a shipped profile. Raises ConfigError that lists those there are."""
    path = profiles_directory() / f"{name}.toml"
    if name not in profile_names():
        raise ConfigError(
            f"profile '{name}' not found{did_you_mean(name, profile_names())}",
            f"profiles are: {', '.join(profile_names())}; a file of your own goes to --config",
        )
    return path


def name_file(
    file: str | None, profile: str | None, config_file: Path | None, flags: Values, assignments: Iterable[str]
) -> tuple[str | None, Values]:
    """Profile and flags for a plain argument: a CSV, of profile `custom` unless one is named, or a dataset's name.

    Raises ConfigError where the user also names another file or dataset.
    """
    if file is None:
        return profile, flags
    is_dataset = file in DATASETS and not Path(file).exists()
    named = {"data.dataset": file} if is_dataset else {"data.dataset": "custom", "data.path": file}
    stated = {**flags, **_parse_assignments(assignments, [])}
    for key in ("data.path", "data.dataset"):
        if key in stated and stated[key] != named.get(key, stated[key] if is_dataset else None):
            raise ConfigError(
                f"'{file}' and {flag_of(key)} {stated[key]} say which data to use, and differ",
                f"leave one of them out; a dataset's own CSV: --dataset {stated.get('data.dataset', 'ETTh1')} "
                f"--data-path {file}"
                if key == "data.dataset"
                else "leave one of them out",
            )
    if profile is None and config_file is None and not is_dataset:
        profile = "custom"
    return profile, {**flags, **named}


def resolve(
    profile: str | None = None,
    config_file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    assignments: Iterable[str] = (),
) -> Settings:
    """Layer the sources, later ones winning: defaults, profile, file, flags, assignments.

    `flags` is keyed by `section.name`; a value of None means "not given". `assignments` are texts such as
    `train.batch_size=4`. The text 'none' unsets a key that may be unset. Paths of data and LLM come back absolute, so
    that what is stored with a run can be found from any folder. Raises ConfigError with every fault of every source in
    one message.
    """
    faults: list[str] = []
    files = {} if profile is None else {f"profile {profile}": profile_path(profile)}
    files |= {} if config_file is None else {str(config_file): config_file}
    layers = {origin: _flatten(origin, _read_toml(path), faults) for origin, path in files.items()}
    layers["flag"] = {key: _unset_or(key, value) for key, value in (flags or {}).items() if value is not None}
    layers["--set"] = _parse_assignments(assignments, faults)

    values: Values = {}
    origins = dict.fromkeys(FIELDS, "default")
    for origin, layer in layers.items():
        values.update(layer)
        origins.update(dict.fromkeys(layer, origin))
    try:
        config = Config.model_validate(nest(values))
    except ValidationError as error:
        faults.extend(explain(error, origins))
    if faults:
        raise faulty(faults)
    return Settings(_with_absolute_paths(config), origins)


def to_toml_values(config: Config) -> dict[str, dict[str, Any]]:
    """The configuration as TOML can hold it: sections of plain values, unset ones left out."""
    return config.model_dump(mode="json", exclude_none=True)


_MOST_BYTES = 2**20
_TOML_FILE = "give the path of a TOML file"
_TOML_FAULTS: dict[type[Exception], tuple[str, str]] = {
    FileNotFoundError: ("not found", _TOML_FILE),
    OSError: ("cannot be read: {error.strerror}", _TOML_FILE),
    UnicodeDecodeError: ("is no UTF-8 text: {error}", "save it as UTF-8"),
    tomllib.TOMLDecodeError: ("is no valid TOML: {error}", 'write texts in quotation marks: name = "none"'),
    RecursionError: (
        "is no configuration: its brackets are nested too deeply",
        "a file has sections, and keys with plain values in them",
    ),
}
"""What is wrong with a configuration file, and the remedy; of an error that is several of these, the first counts."""


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ConfigError(f"configuration file '{path}' has more than {_MOST_BYTES:,} bytes", _TOML_FILE)
        return tomllib.loads(content.decode("utf-8-sig"))
    except tuple(_TOML_FAULTS) as error:
        fault, remedy = next(what for kind, what in _TOML_FAULTS.items() if isinstance(error, kind))
        there = sorted(one.name for one in path.parent.glob("*.toml")) if isinstance(error, FileNotFoundError) else []
        if there:
            fault, remedy = f"not found{did_you_mean(path.name, there)}", f"TOML files there: {quoted(there)}"
        raise ConfigError(f"configuration file '{path}' {fault.format(error=error)}", remedy) from None


def _flatten(origin: str, tree: Mapping[str, Any], faults: list[str]) -> Values:
    values: Values = {}
    for section, content in tree.items():
        if section not in SECTIONS:
            homes = [key for key in FIELDS if key.endswith(f".{section}")]
            meant = f"; did you mean '{homes[0]}'?" if homes else did_you_mean(section, SECTIONS)
            faults.append(f"[{section}] in {origin}: no such section{meant} (sections: {', '.join(SECTIONS)})")
        elif not isinstance(content, Mapping):
            faults.append(f"{section} in {origin}: expected a section [{section}], got {content!r}")
        else:
            for name, value in content.items():
                _accept(f"{section}.{name}", value, origin, values, faults)
    return values


def _parse_assignments(assignments: Iterable[str], faults: list[str]) -> Values:
    values: Values = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            faults.append(f"--set {assignment}: write it as section.key=value")
        else:
            _accept(key.strip(), _unset_or(key.strip(), value.strip()), "--set", values, faults)
    return values


def _unset_or(key: str, text: Any) -> Any:
    may_be_unset = key in FIELDS and FIELDS[key].default is None
    return None if may_be_unset and str(text).lower() == "none" else text


def _with_absolute_paths(config: Config) -> Config:
    data, llm = config.data.path, _at_home(Path(config.llm.name))
    return config.with_values(
        ({"data.path": _at_home(data).absolute()} if data else {})
        | ({"llm.name": str(llm.absolute())} if (llm / "config.json").is_file() else {})
        | {key: str(path.absolute()) for key, path in _paths_ahead(config).items() if path.exists()}
    )


def _paths_ahead(config: Config) -> dict[str, Path]:
    named = {"ahead.events": config.ahead.events, "ahead.llm": config.ahead.llm}
    return {key: _at_home(Path(text)) for key, text in named.items() if text}


def _at_home(path: Path) -> Path:
    """The path with '~' and '~user' replaced; as it is for a user that is not known."""
    with suppress(RuntimeError):
        return path.expanduser()
    return path


def _accept(key: str, value: Any, origin: str, values: Values, faults: list[str]) -> None:
    if isinstance(value, str) and "\0" in value:
        faults.append(f"{key} in {origin}: holds a NUL character, which no path and no text may")
        return
    if key in FIELDS:
        values[key] = value
        return
    section, _, name = key.rpartition(".")
    siblings = [known for known in FIELDS if known.startswith(f"{section}.")]
    meant = [known for known in FIELDS if known.split(".")[1] == name]
    near = f"; did you mean '{meant[0]}'?" if meant else did_you_mean(key, siblings or FIELDS)
    listing = f" (keys of [{section}]: {', '.join(known.split('.')[1] for known in siblings)})" if siblings else ""
    faults.append(f"{key} in {origin}: no such key{near}{listing}")


def faulty(faults: Sequence[str]) -> ConfigError:
    """The error that names these faults of a configuration."""
    number = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
    return ConfigError(
        "\n  - ".join((f"the configuration has {number}:", *faults)),
        "`timellm profiles show NAME` prints every key with its value",
    )


def explain(error: ValidationError, origins: Mapping[str, str]) -> list[str]:
    """One line a fault; the several branches of a union (such as 'a number or all') become one line."""
    lines: dict[str, str] = {}
    for fault in error.errors(include_url=False):
        key = ".".join(str(part) for part in fault["loc"][:2])
        message = fault["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        if key not in FIELDS:
            lines[message] = f"{key}: {message}" if key else message
        elif key in lines:
            lines[key] += f", or: {message}"
        else:
            lines[key] = f"{key} = {fault['input']!r} ({origins[key]}): {message}"
    return list(lines.values())
