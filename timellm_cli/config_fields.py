"""What the fields of the configuration are made of: their base, and the types that check a value. Light."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from timellm_cli.closed_days import check_place
from timellm_cli.units import parse_memory, split_names

_LARGEST = 2**53


def option(default: Any, meaning: str, *, flag: str = "", **constraints: Any) -> Any:
    """A field whose `meaning` is its help text. `flag` replaces the default `--field-name`."""
    return Field(default, description=meaning, json_schema_extra={"flag": flag} if flag else None, **constraints)


def _split_commas(value: Any) -> Any:
    return split_names(value) if isinstance(value, str) else value


def _refuse_twins(names: tuple[str, ...]) -> tuple[str, ...]:
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise ValueError(f"named twice: {', '.join(twins)}")
    return names


def nest(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Values by `section.name` as sections of values."""
    tree: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, name = key.split(".")
        tree.setdefault(section, {})[name] = value
    return tree


def _check_zone(value: str | None) -> str | None:
    try:
        return value and ZoneInfo(value).key
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError(f"no time zone is called '{value}'; a name is like Europe/Berlin") from None


def _check_memory(value: str | None) -> str | None:
    if value is not None:
        parse_memory(value)
    return value


_MAKERS = {"mps": "Apple", "metal": "Apple", "rocm": "AMD", "hip": "AMD", "xpu": "Intel", "dml": "DirectX"}
"""Whose GPUs other programs call so."""


def check_device(value: Any) -> Any:
    """The value as it is. Raises ValueError that says what to do instead for a GPU that is not used, or a number."""
    name, _, number = str(value).lower().partition(":")
    if name in _MAKERS:
        raise ValueError(f"only GPUs of NVIDIA are used (cuda), none of {_MAKERS[name]}: choose cpu")
    if name in ("cuda", "gpu") and (number or name == "gpu"):
        raise ValueError(f"say cuda; a card is chosen by the variable CUDA_VISIBLE_DEVICES={number or 0}")
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_split_commas), AfterValidator(_refuse_twins)]
Zone = Annotated[str | None, AfterValidator(_check_zone)]
Place = Annotated[str | None, AfterValidator(lambda place: place and check_place(place))]
Processor = Annotated[Literal["auto", "cpu", "cuda"], BeforeValidator(check_device)]
Memory = Annotated[str | None, AfterValidator(_check_memory)]


class Section(BaseModel):
    """Base of all sections: values cannot change afterwards, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _refuse_what_no_float_holds(cls, value: Any) -> Any:
        if isinstance(value, int) and value > _LARGEST:
            raise ValueError(f"must be at most {_LARGEST:,}")
        return value
