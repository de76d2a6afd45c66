"""The text before a sample: a template whose fields are constants of the run and statistics of the window. Light.

Tokens and the statistics themselves are in `prompt_tokens.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from string import Formatter
from typing import Literal

from timellm_cli.config import PromptConfig, WindowConfig
from timellm_cli.errors import ConfigError, did_you_mean

CONSTANT_FIELDS = ("description", "pred_len", "seq_len", "top_lags")
STATISTIC_FIELDS = ("min", "max", "median", "trend", "lags")


@dataclass(frozen=True)
class WindowStatistics:
    """What the prompt says of one history, all in window-normalised units.

    `median` is the lower of the two middle values, `upward` whether the last value lies above the first, `lags` the
    shifts of highest circular autocorrelation, highest first, the smaller shift first where two are equal.
    """

    min: float
    max: float
    median: float
    upward: bool
    lags: tuple[int, ...]


class PromptText:
    """A checked template with its constant fields filled in."""

    def __init__(self, prompt: PromptConfig, window: WindowConfig, description: str) -> None:
        """Raises ConfigError for a field the template cannot have."""
        constants = {
            "description": description,
            "pred_len": str(window.pred_len),
            "seq_len": str(window.seq_len),
            "top_lags": str(prompt.top_lags),
        }
        self.top_lags = prompt.top_lags
        self._parts = _parse(prompt.template, constants)
        self._write = _format_of(self._parts, prompt.decimals).format

    @property
    def prefix(self) -> str:
        """The text that is the same for every sample, up to the space before the first statistic.

        Most tokenisers split before a space, so it can be tokenised apart from the rest.
        """
        constant = takewhile(lambda part: not part[1], self._parts)
        return "".join(text for text, _ in constant).rstrip()

    def render(self, statistics: WindowStatistics) -> str:
        """The whole prompt of one sample."""
        return self._write(
            min=statistics.min,
            max=statistics.max,
            median=statistics.median,
            trend="upward" if statistics.upward else "downward",
            lags=list(statistics.lags),
        )


def _format_of(parts: list[tuple[str, bool]], decimals: int | Literal["all"]) -> str:
    """A format string that writes a sample in one call, for there are thousands a second."""
    # "z" prints -0.0004 as 0.000: a sign that flips by rounding noise would change the prompt.
    number = "" if decimals == "all" else f":z.{decimals}f"
    spec = {"min": number, "max": number, "median": number, "trend": "", "lags": ""}
    return "".join(
        f"{{{text}{spec[text]}}}" if is_field else text.replace("{", "{{").replace("}", "}}")
        for text, is_field in parts
    )


def _parse(template: str, constants: Mapping[str, str]) -> list[tuple[str, bool]]:
    """The template as (text, is it a statistic's name) parts, constants put in."""
    known = (*CONSTANT_FIELDS, *STATISTIC_FIELDS)
    listing = "fields are " + ", ".join(f"{{{name}}}" for name in known) + "; write a brace of the text twice"
    parts: list[tuple[str, bool]] = []
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"prompt.template cannot be read: {error}", listing) from None
    for literal, name, spec, conversion in pieces:
        parts.append((literal, False))
        if name is None:
            continue
        if name not in known or spec or conversion:
            written = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise ConfigError(f"prompt.template has no field '{{{written}}}'{did_you_mean(name, known)}", listing)
        parts.append((constants[name], False) if name in constants else (name, True))
    return parts
