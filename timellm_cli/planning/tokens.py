"""How many tokens a prompt takes: counted by the LLM's own tokenizer where its file is here, else estimated. Light."""

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from timellm_cli.errors import ModelError
from timellm_cli.llm_files import find_llm
from timellm_cli.model.prompt import PromptText, WindowStatistics
from timellm_cli.planning.llm_shape import LLMShape

_PIECES = re.compile(r"[A-Za-z]|(\d)|([\u2e80-\u9fff\uac00-\ud7af\uff00-\uffef])|(\S)")


@dataclass(frozen=True)
class TokenCount:
    """Tokens of one prompt: `static` are the same for every sample, `per_sample` change with its statistics.

    `exact` tells a tokenizer's count from an estimate; `error` is the largest miss to expect of an estimate, a share.
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
        counts = {"letter": 0, "digit": 0, "han": 0, "sign": 0}
        for piece in _PIECES.finditer(text):
            counts[("letter", "digit", "han", "sign")[piece.lastindex or 0]] += 1
        return sum(count * getattr(self, kind) for kind, count in counts.items())


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
        static = count(text.head)
        return TokenCount(static, count(prompt) - static, exact=True, error=0.0)
    rates = tokenizer_rates(shape.tokenizer if shape else "other")
    static = round(rates.estimate(text.head)) + rates.added
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
