"""The text before a sample: a template whose fields are constants of the run and statistics of the window. Light.

Tokens and the statistics themselves are in `prompt_tokens.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from timellm_cli.config import PromptConfig, WindowConfig
from timellm_cli.errors import ModelError
from timellm_cli.prompt_template import parse_template


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
        self._parts = [
            (constants[text], False) if is_field and text in constants else (text, is_field)
            for text, is_field in parse_template(prompt.template)
        ]
        self._write = _format_of(self._parts, prompt.decimals).format

    @property
    def prefix(self) -> str:
        """The text that is the same for every sample, up to the space before the first statistic.

        Most tokenisers split before a space, so it can be tokenised apart from the rest.
        """
        constant = takewhile(lambda part: not part[1], self._parts)
        return "".join(text for text, _ in constant).rstrip()

    def render(self, statistics: WindowStatistics, series: str = "") -> str:
        """The whole prompt of one sample; `series` is the name of its channel."""
        return self._write(
            series=series,
            min=statistics.min,
            max=statistics.max,
            median=statistics.median,
            trend="upward" if statistics.upward else "downward",
            lags=list(statistics.lags),
        )


def many_kinds(top_lags: int) -> list[WindowStatistics]:
    """Statistics with every sign and first digit: one of these always follows the constant text."""
    sizes = (0.0, *(digit * 1.0371 for digit in range(1, 10)), 12.5, 345.6)
    values = [sign * size for size in sizes for sign in (1, -1)]
    return [
        WindowStatistics(value, value, value, value > 0, tuple(range(first, first + top_lags)))
        for first, value in enumerate(values)
    ]


def require_tokens(
    prompts: Sequence[str], bare: Sequence[Sequence[int]], whole: Sequence[Sequence[int]], words: int | None
) -> None:
    """Raise ModelError where a tokeniser makes nothing of a prompt, or tokens that the LLM does not have.

    `bare` are the prompts' token ids, `whole` those with special tokens; `words` is how many the LLM has, if known.
    """
    if any(prompt.strip() and not ids for prompt, ids in zip(prompts, bare, strict=True)):
        raise ModelError(
            "the LLM's tokenizer makes no token of a prompt",
            "look at the normalizer in its tokenizer.json, or choose another --llm",
        )
    require_known(max((max(ids, default=0) for ids in whole), default=0), words)


def require_known(largest_id: int, words: int | None) -> None:
    """Raise ModelError where a tokeniser writes a token that the LLM does not have."""
    if words is not None and largest_id >= words:
        raise ModelError(
            f"the tokenizer writes token {largest_id:,}, but the LLM has {words:,} tokens, counted from 0",
            "put the tokenizer files that belong to the LLM beside it, or fetch it again",
        )


def _format_of(parts: list[tuple[str, bool]], decimals: int | Literal["all"]) -> str:
    """A format string that writes a sample in one call, for there are thousands a second."""
    # "z" prints -0.0004 as 0.000: a sign that flips by rounding noise would change the prompt.
    number = "" if decimals == "all" else f":z.{decimals}f"
    spec = {"series": "", "min": number, "max": number, "median": number, "trend": "", "lags": ""}
    return "".join(
        f"{{{text}{spec[text]}}}" if is_field else text.replace("{", "{{").replace("}", "}}")
        for text, is_field in parts
    )
