"""The same run with several values of one key, side by side. Light."""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from timellm_cli.config import FIELDS, Config
from timellm_cli.errors import ConfigError, TimellmError, did_you_mean
from timellm_cli.planning.plan import Plan


@dataclass(frozen=True)
class Swept:
    """One value with its plan, or with the fault that keeps it from having one."""

    value: str
    plan: Plan | None
    fault: str = ""


def parse_sweep(text: str) -> tuple[str, list[str]]:
    """Key and values of 'batch_size=4,8,16'; the key with its section, or without where one section alone has it.

    Raises ConfigError for anything else.
    """
    name, equals, values = text.partition("=")
    listed = [value.strip() for value in values.split(",") if value.strip()]
    if not equals or not listed:
        raise ConfigError(f"--sweep {text}: no values", "write a key with its values: --sweep batch_size=4,8,16")
    name = name.strip().lstrip("-").replace("-", "_")
    found = [name] if name in FIELDS else [key for key in FIELDS if key.split(".")[1] == name]
    if len(found) == 1:
        return found[0], listed
    if found:
        raise ConfigError(f"--sweep {name}: several sections have that key", f"write one of {', '.join(found)}")
    known = [*FIELDS, *(key.split(".")[1] for key in FIELDS)]
    raise ConfigError(
        f"--sweep {name}: no such key{did_you_mean(name, known)}",
        "`timellm profiles show NAME` lists every key",
    )


def sweep(config: Config, key: str, values: list[str], make: Callable[[Config], Plan]) -> list[Swept]:
    """A plan for each value. Raises ConfigError for one that the key cannot have."""
    return [_plan(config, key, value, make) for value in values]


def _plan(config: Config, key: str, value: str, make: Callable[[Config], Plan]) -> Swept:
    try:
        changed = config.with_values({key: value})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--sweep {key}={value}: {fault[0].lower()}{fault[1:]}", "leave that value out") from None
    try:
        return Swept(value, make(changed))
    except TimellmError as error:
        return Swept(value, None, error.message)
