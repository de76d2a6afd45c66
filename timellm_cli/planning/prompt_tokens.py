"""The prompt of a run and its number of tokens, without an array library. Light.

The statistics of the first training sample take the same steps as in training (`model/prompt_tokens.py`; a test
compares both). Tokens are counted by the LLM's own tokenizer where its file is here, else estimated.
"""

import math
import re
import tomllib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from operator import mul
from pathlib import Path

from timellm_cli.config import Config
from timellm_cli.data.csv_format import EMPTY_CELLS, not_a_number, open_source
from timellm_cli.data.preview import Probe
from timellm_cli.data.timestamps import fitting_formats, no_timestamp, parse_timestamp
from timellm_cli.datasets import description_of, known_dataset
from timellm_cli.errors import DataError, ModelError
from timellm_cli.llm_files import NO_LLM, find_llm
from timellm_cli.model.prompt import PromptText, WindowStatistics
from timellm_cli.planning.llm_shape import LLMShape
from timellm_cli.splits import split_rows

_EPSILON = 1e-5
_TIE = 1e-9


def first_sample_statistics(probe: Probe, config: Config) -> WindowStatistics:
    """Statistics of the first training window of the first channel, as its prompt gives them, window-normalised.

    Raises DataError where the training span has a gap that is not to be filled, or text among its numbers.
    """
    span = split_rows(probe.rows, known_dataset(config.data), config.data, config.window).scaler
    values = list(islice(_read_channel(probe, config), span.stop))
    mean, variance = _moments(values)
    history = array("f", ((value - mean) / (math.sqrt(variance) or 1.0) for value in values[: config.window.seq_len]))
    return describe(normalise(history), config.prompt.top_lags)


def normalise(history: Sequence[float]) -> list[float]:
    """A history with mean 0 and population deviation 1, as float32 numbers."""
    mean, variance = _moments(history)
    return list(array("f", ((value - mean) / math.sqrt(variance + _EPSILON) for value in history)))


def _moments(values: Sequence[float]) -> tuple[float, float]:
    """Mean and population variance."""
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((value - mean) ** 2 for value in values) / len(values)


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


def _read_channel(probe: Probe, config: Config) -> Iterator[float]:
    """The values of the first channel, one a row of the regular table; gaps are interpolated where that is wished."""
    source = open_source(probe.path, None, config.data.date_column)
    name = probe.columns[0]
    column, dates = source.header.index(name), source.header.index(config.data.date_column)
    fills = config.data.fill == "linear"
    place_of = _placer(probe, config.data.date_column) if fills and probe.cadence else None
    before: tuple[int, float] | None = None
    with source.rows() as lines:
        for row, (line, cells) in enumerate(islice(lines, 1, None)):
            cell = cells[column].strip() if column < len(cells) else ""
            if cell not in EMPTY_CELLS:
                try:
                    now = place_of(line, cells[dates]) if place_of else row, float(cell)
                except ValueError:
                    raise not_a_number(source.name, line, name, cell) from None
                yield from _fill(before, now)
                before = now
            elif not fills:
                raise DataError(
                    f"{source.name}, line {line}, column '{name}': the cell is empty", "--fill linear fills it"
                )


def _placer(probe: Probe, date_column: str) -> Callable[[int, str], int]:
    """A function from the timestamp of a line to its row in the regular table."""
    form = fitting_formats([probe.first, probe.last])[0]
    first = parse_timestamp(probe.first, form)

    def place_of(line: int, text: str) -> int:
        stamp = parse_timestamp(text.strip(), form)
        if stamp is None or first is None or probe.cadence is None:
            raise no_timestamp(str(probe.path), f"line {line}", text, date_column)
        return (stamp - first) // probe.cadence

    return place_of


def _fill(before: tuple[int, float] | None, now: tuple[int, float]) -> Iterator[float]:
    """The value of this row, and those of the absent rows before it on a straight line."""
    place, value = now
    if before is None:
        yield from [value] * (place + 1)
        return
    first, start = before
    yield from (start + (value - start) * (row - first) / (place - first) for row in range(first + 1, place))
    yield value


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


def count_tokens(text: PromptText, statistics: WindowStatistics, shape: LLMShape | None) -> TokenCount:
    """Tokens of a prompt with these statistics, special tokens included; `shape` is None for an LLM nobody knows.

    Raises ModelError for a broken tokenizer file.
    """
    prompt = text.render(statistics)
    if shape and (count := _load_tokenizer(shape.name)):
        static = count(text.prefix)
        return TokenCount(static, count(prompt) - static, exact=True, error=0.0)
    rates = tokenizer_rates(shape.tokenizer if shape else "other")
    static = round(rates.estimate(text.prefix)) + rates.added
    total = round(rates.estimate(prompt)) + rates.added
    return TokenCount(static, total - static, exact=False, error=rates.error)


@cache
def tokenizer_rates(family: str) -> TokenRates:
    """The measured rates of a tokenizer family, from the table of well-known LLMs."""
    table = tomllib.loads(Path(__file__).with_name("known_llms.toml").read_text(encoding="utf-8"))["tokenizers"]
    return TokenRates(**table[family])


@cache
def _load_tokenizer(name: str) -> Callable[[str], int] | None:
    """What counts tokens as `AutoTokenizer` would, through the small library underneath it; None without its file."""
    folder = find_llm(name)
    file = folder / "tokenizer.json" if folder else None
    if file is None or not file.is_file():
        return None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more specific
        raise ModelError(f"'{file}' is no tokenizer: {error}", "fetch the LLM again") from None
    return lambda text: len(tokenizer.encode(text).ids)


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


def read_prompt(config: Config, shape: LLMShape | None, probe: Probe | None = None) -> Prompt:
    """The prompt of the first training sample of a probed file, or a typical one.

    Raises ConfigError for an impossible prompt, and DataError where the first sample cannot be read.
    """
    if config.llm.name == NO_LLM:
        return Prompt(_NONE, _NONE, "", is_real=False)
    description = description_of(config.data, config.prompt.description)
    ours = PromptText(config.prompt, config.window, description)
    published = PromptText(config.prompt.model_copy(update={"decimals": "all"}), config.window, description)
    sample = first_sample_statistics(probe, config) if probe else None
    statistics = sample or typical_statistics(config.window.seq_len, config.prompt.top_lags)
    counts = count_tokens(ours, statistics, shape), count_tokens(published, statistics, shape)
    return Prompt(*counts, ours.render(statistics), is_real=sample is not None)
