"""The prompt of a run and its number of tokens, without an array library. Light.

The statistics of the first training sample take the same steps as in training (`model/prompt_tokens.py`; a test
compares both). Tokens are counted by the LLM's own tokenizer where its file is here, else estimated.
"""

import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from operator import mul
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timellm_cli.config import Config
from timellm_cli.datasets import description_of
from timellm_cli.errors import ModelError
from timellm_cli.llm_files import NO_LLM, find_llm
from timellm_cli.model.prompt import PromptText, WindowStatistics, many_kinds, require_tokens
from timellm_cli.planning.first_window import first_history
from timellm_cli.planning.llm_shape import LLMShape

if TYPE_CHECKING:
    from timellm_cli.data.table import Table

_TIE = 1e-9
"""Autocorrelations are rounded to this share of the largest, so that equal ones stay equal."""


def first_sample(table: "Table", config: Config) -> tuple[WindowStatistics, str]:
    """Statistics of the first training window, as its prompt gives them, window-normalised, and its channel's name."""
    history = first_history(table, config)
    return describe(history.scaled, config.prompt.top_lags), history.channel


def describe(scaled: Sequence[float], top_lags: int) -> WindowStatistics:
    """The statistics of a window-normalised history; the median is the lower of the two middle values."""
    return WindowStatistics(
        min=min(scaled),
        max=max(scaled),
        median=sorted(scaled)[(len(scaled) - 1) // 2],
        upward=scaled[-1] > scaled[0],
        lags=_top_lags(scaled, top_lags),
    )


def _top_lags(scaled: Sequence[float], count: int) -> tuple[int, ...]:
    """Shifts of highest circular autocorrelation; equal ones, such as k and T - k, by size."""
    length = len(scaled)
    twice = [*scaled, *scaled]
    half = [sum(map(mul, scaled, twice[lag : lag + length])) for lag in range(length // 2 + 1)]
    unit = max(half[0], 1e-300) * _TIE
    return tuple(sorted(range(length), key=lambda lag: (-round(half[min(lag, length - lag)] / unit), lag))[:count])


_PIECES = re.compile(r"[A-Za-z]|(\d)|([\u2e80-\u9fff\uac00-\ud7af\uff00-\uffef])|(\S)")


@dataclass(frozen=True)
class TokenCount:
    """Tokens of one prompt: `static` are the same for every sample, `per_sample` change with its statistics.

    `exact`: counted by a tokenizer, not estimated. `error` is the largest error to expect of an estimate, as a share.
    """

    static: int
    per_sample: int
    exact: bool
    error: float

    @property
    def total(self) -> int:
        """K, the prompt tokens of one sample."""
        return self.static + self.per_sample


@dataclass(frozen=True)
class TokenRates:
    """How a tokenizer family writes text: tokens a letter, a digit, another sign, a CJK character; tokens it adds."""

    letter: float
    digit: float
    sign: float
    han: float
    added: int
    error: float

    def estimate(self, text: str) -> float:
        """About how many tokens a text takes, without those the tokenizer adds around it."""
        rates = (self.letter, self.digit, self.han, self.sign)
        return math.fsum(rates[piece.lastindex or 0] for piece in _PIECES.finditer(text))


def typical_statistics(seq_len: int, top_lags: int) -> WindowStatistics:
    """Statistics as long in print as those of real windows, for counting tokens where no data are at hand."""
    lags = [shift % seq_len for near in range(1, top_lags + 1) for shift in (near, seq_len - near)]
    return WindowStatistics(
        min=-2.2061071395874023, max=2.189371109008789, median=-0.12266355752944946, upward=True,
        lags=(0, *lags)[:top_lags],
    )  # fmt: skip


def count_tokens(
    text: PromptText, statistics: WindowStatistics, shape: LLMShape | None, name: str = "", series: str = ""
) -> TokenCount:
    """Tokens of the prompt of a channel called `series` with these statistics, special tokens included.

    `shape` is None for an LLM whose sizes are not known; its tokenizer is found by `name`. Raises ModelError for a
    broken tokenizer file.
    """
    prompt = text.render(statistics, series)
    if (name := shape.name if shape else name) and (tokenizer := _load_tokenizer(name)):
        static, total = (len(tokenizer.encode(part).ids) for part in (text.prefix, prompt))
        return TokenCount(static, total - static, exact=True, error=0.0)
    rates = tokenizer_rates(shape.tokenizer if shape else "other")
    static = round(rates.estimate(text.prefix)) + rates.added
    total = round(rates.estimate(prompt)) + rates.added
    return TokenCount(static, total - static, exact=False, error=rates.error)


def count_longest(texts: Sequence[str], shape: LLMShape) -> int:
    """Tokens of the longest of these texts, counted by the LLM's tokenizer where it is here, else estimated."""
    if tokenizer := _load_tokenizer(shape.name):
        return max(len(one.ids) for one in tokenizer.encode_batch(list(texts)))
    rates = tokenizer_rates(shape.tokenizer)
    return max(round(rates.estimate(text)) + rates.added for text in texts)


@cache
def tokenizer_rates(family: str) -> TokenRates:
    """The measured rates of a tokenizer family, from the table of well-known LLMs."""
    table = tomllib.loads(Path(__file__).with_name("known_llms.toml").read_text(encoding="utf-8"))["tokenizers"]
    return TokenRates(**table[family])


@cache
def _load_tokenizer(name: str) -> Any:
    """What makes the tokens that `AutoTokenizer` would, from the small library underneath it; None without its file."""
    folder = find_llm(name)
    file = folder / "tokenizer.json" if folder else None
    if file is None or not file.is_file():
        return None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more specific
        raise ModelError(f"'{file}' is no tokenizer: {error}", "fetch the LLM again") from None
    tokenizer.no_truncation()  # as the run calls it, whatever the file says
    tokenizer.no_padding()
    return tokenizer


def require_fitting_tokenizer(config: Config, words: int | None) -> None:
    """Raise ModelError where loading would refuse the tokenizer for the prompts that it makes of this run."""
    if tokenizer := _load_tokenizer(config.llm.name):
        text = PromptText(config.prompt, config.window, description_of(config.data, config.prompt.description))
        prompts = [text.render(statistics) for statistics in many_kinds(text.top_lags)]
        bare, whole = (
            [encoding.ids for encoding in tokenizer.encode_batch(prompts, add_special_tokens=specials)]
            for specials in (False, True)
        )
        require_tokens(prompts, bare, whole, words)


_NONE = TokenCount(0, 0, exact=True, error=0.0)


@dataclass(frozen=True)
class Prompt:
    """`tokens` of our prompt, `published_tokens` of the same one with every digit, as the published code prints it.

    They and `text` are of the first training sample where that was asked for and the file is here (`is_real`), else of
    typical statistics.
    """

    tokens: TokenCount
    published_tokens: TokenCount
    text: str
    is_real: bool


def read_prompt(config: Config, shape: LLMShape | None, table: "Table | None" = None) -> Prompt:
    """The prompt of the first training sample of a file that was read, or a typical one.

    Raises ConfigError for an impossible prompt.
    """
    if config.llm.name == NO_LLM:
        return Prompt(_NONE, _NONE, "", is_real=False)
    description = description_of(config.data, config.prompt.description)
    ours = PromptText(config.prompt, config.window, description)
    published = PromptText(config.prompt.model_copy(update={"decimals": "all"}), config.window, description)
    if table:
        statistics, name = first_sample(table, config)
    else:
        statistics, name = typical_statistics(config.window.seq_len, config.prompt.top_lags), "series"
    tokens, longer = (count_tokens(kind, statistics, shape, config.llm.name, name) for kind in (ours, published))
    return Prompt(tokens, longer, ours.render(statistics, name), is_real=table is not None)
