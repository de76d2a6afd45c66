"""What the prompt says of a window: smallest, largest and middle value, trend, lags of highest autocorrelation.

Texts to token ids, by the shortest way that gives the very ids of the plain one: the tails alone, in one call.

The plain way is the tokeniser's own call on whole prompts. Both shortcuts are tried on prompts of many kinds when the
tokeniser is new, and one that gives other ids there is not taken: a tokeniser may join the end of the constant head
with what follows, or do something before its fast library is reached.

From histories to prompt tokens with their mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from timellm_cli.data.batch import Batch, PromptTokens
from timellm_cli.data.windows import Window, Windows
from timellm_cli.errors import ModelError
from timellm_cli.model.prompt import PromptText, WindowStatistics
from timellm_cli.model.time_llm import normalise

_TIE = 1e-9
"""Autocorrelations closer than this share of the largest count as equal: far above the noise of a float64 FFT."""


def window_statistics(scaled_BT: Tensor, top_lags: int) -> list[WindowStatistics]:
    """The statistics of each window-normalised history."""
    lags = top_autocorrelation_lags(scaled_BT, top_lags).tolist()
    minima, maxima = scaled_BT.amin(dim=1).tolist(), scaled_BT.amax(dim=1).tolist()
    middle = (scaled_BT.shape[1] - 1) // 2
    medians = np.partition(scaled_BT.numpy(), middle, axis=1)[:, middle].tolist()  # torch.median takes four times it
    upward = (scaled_BT[:, -1] > scaled_BT[:, 0]).tolist()
    return [
        WindowStatistics(minimum, maximum, median, up, tuple(window_lags))
        for minimum, maximum, median, up, window_lags in zip(minima, maxima, medians, upward, lags, strict=True)
    ]


def top_autocorrelation_lags(scaled_BT: Tensor, count: int) -> Tensor:
    """The `count` shifts of highest circular autocorrelation, highest first; B x count, int64.

    Lags k and T-k tie by mathematics, and multiples of a period tie in periodic data; in the original the rounding of
    the FFT decides their order, so a prompt can change with the batch size. Here equal lags are ordered by size.
    """
    length = scaled_BT.shape[1]
    spectrum = torch.fft.rfft(scaled_BT.double(), dim=1)
    correlation_BT = torch.fft.irfft((spectrum * spectrum.conj()).real, n=length, dim=1)
    unit_B1 = correlation_BT[:, :1].clamp_min(torch.finfo(torch.float64).tiny) * _TIE
    half_Bt = torch.round(correlation_BT[:, : length // 2 + 1] / unit_B1)
    mirrored_Bt = half_Bt[:, 1 : (length + 1) // 2].flip(1)
    # Whole numbers up to 1/_TIE, spread so that the lag itself breaks ties: exact in float64 up to 9 million lags.
    rank_BT = torch.cat([half_Bt, mirrored_Bt], dim=1) * length - torch.arange(length)
    return rank_BT.topk(count, dim=1).indices


Sequences = list[list[int]]


@dataclass(frozen=True)
class _Seam:
    """Where prompts may be cut.

    `head` are the tokens of the head's text with the special ones before it, `end` the special ones after a prompt.
    """

    text: str
    head: list[int]
    end: list[int]


class Tokenise:
    """Prompts to the tokens that all begin with, and those that follow in each."""

    def __init__(self, text: PromptText, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._head_ids: list[int] = self._call([text.head], specials=False)[0] if text.head else []
        prompts = [text.render(statistics) for statistics in _many_kinds(text.top_lags)]
        plain = self._call(prompts)
        self._asks_library = (
            _has_library(tokenizer)
            and self._ask_library(prompts) == plain
            and self._ask_library(prompts, specials=False) == self._call(prompts, specials=False)
        )
        self._seam = self._find_seam(text.head, prompts, plain) if self._head_ids else None

    def __call__(self, prompts: list[str]) -> tuple[tuple[int, ...], Sequences]:
        """The common head, special tokens before it included, and the tails. No head where it differs or is unsure."""
        seam = self._seam
        if seam and all(prompt.startswith(seam.text) for prompt in prompts):
            start = len(seam.text)
            tails = self._encode([prompt[start:] for prompt in prompts], specials=False)
            return tuple(seam.head), [tail + seam.end for tail in tails] if seam.end else tails
        sequences = self._encode(prompts)
        head = self._common_head(sequences)
        return tuple(head), [sequence[len(head) :] for sequence in sequences]

    def _call(self, texts: list[str], specials: bool = True) -> Sequences:
        sequences: Sequences = self._tokenizer(texts, add_special_tokens=specials)["input_ids"]
        return sequences

    def _ask_library(self, texts: list[str], specials: bool = True) -> Sequences:
        found = self._tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=specials)
        return [encoding.ids for encoding in found]

    def _encode(self, texts: list[str], specials: bool = True) -> Sequences:
        """What `_call` gives; where the library under it may be asked itself, in two thirds of the time."""
        return self._ask_library(texts, specials) if self._asks_library else self._call(texts, specials)

    def _find_seam(self, text: str, prompts: list[str], plain: Sequences) -> _Seam | None:
        """The seam at the end of the head's text, if tokens of head and tails join to the tokens of every prompt."""
        head = self._common_head(plain)
        tails = self._encode([prompt[len(text) :] for prompt in prompts], specials=False)
        end = plain[0][len(head) + len(tails[0]) :]
        joins = all(whole == head + tail + end for whole, tail in zip(plain, tails, strict=True))
        return _Seam(text, head, end) if head and joins else None

    def _common_head(self, sequences: Sequences) -> list[int]:
        """The template's head with the special tokens before it, if every sequence begins with all of it, else nothing.

        Read off the tokens themselves, because a tokeniser may join the end of the head with what follows.
        """
        specials = next((at for at in range(3) if sequences[0][at : at + 1] == self._head_ids[:1]), 0)
        head = sequences[0][:specials] + self._head_ids
        return head if all(sequence[: len(head)] == head for sequence in sequences) else []


def _has_library(tokenizer: Any) -> bool:
    return hasattr(getattr(tokenizer, "backend_tokenizer", None), "encode_batch_fast")


def _many_kinds(top_lags: int) -> list[WindowStatistics]:
    """Statistics with every sign and first digit, of which some has to follow the head's text."""
    sizes = (0.0, *(digit * 1.0371 for digit in range(1, 10)), 12.5, 345.6)
    values = [sign * size for size in sizes for sign in (1, -1)]
    return [
        WindowStatistics(value, value, value, value > 0, tuple(range(first, first + top_lags)))
        for first, value in enumerate(values)
    ]


class PromptEncoder:
    """Writes the prompt of each history and tokenises it."""

    def __init__(
        self, text: PromptText, tokenizer: Any, max_tokens: int, multiple_of: int = 1, beside: int = 0
    ) -> None:
        """`max_tokens` is what the LLM's positions leave for the prompt.

        Tails are padded until prompt and `beside` more tokens are a multiple of `multiple_of`: so batches take few
        different shapes, and each can be captured once.
        """
        self.text = text
        self.max_tokens = max_tokens
        self._tokenise = Tokenise(text, tokenizer)
        self._multiple_of, self._beside = multiple_of, beside

    def encode(self, history_BT: Tensor) -> PromptTokens:
        """Prompts of standardised histories. Raises ModelError where a prompt is too long: it is never cut."""
        scaled_BT, _ = normalise(history_BT)
        return self.encode_texts(
            [self.text.render(sample) for sample in window_statistics(scaled_BT, self.text.top_lags)]
        )

    def encode_texts(self, prompts: list[str]) -> PromptTokens:
        """Tokens of ready prompts, with the tokeniser's own special tokens."""
        head, tails = self._tokenise(prompts)
        lengths_B = np.fromiter(map(len, tails), dtype=np.int64, count=len(tails))
        longest = len(head) + int(lengths_B.max())
        if longest > self.max_tokens:
            raise ModelError(
                f"a prompt has {longest:,} tokens, but the LLM has room for {self.max_tokens:,} before the patches",
                "shorten prompt.description or prompt.template, or take fewer prompt.decimals",
            )
        width = longest - len(head) + -(longest + self._beside) % self._multiple_of
        mask_BK = np.arange(width) >= width - lengths_B[:, None]
        ids_BK = np.zeros((len(tails), width), dtype=np.int64)
        ids_BK[mask_BK] = np.fromiter(chain.from_iterable(tails), dtype=np.int64, count=lengths_B.sum())
        return PromptTokens(torch.from_numpy(ids_BK), torch.from_numpy(mask_BK.astype(np.int64)), head)


class NoPromptEncoder:
    """The encoder of the model without an LLM: nothing reads a prompt, so there is none."""

    def encode(self, history_BT: Tensor) -> PromptTokens:
        """B prompts of no tokens."""
        nothing = torch.zeros(len(history_BT), 0, dtype=torch.int64)
        return PromptTokens(nothing, nothing)


def load_tokenizer(folder: Path) -> Any:
    """The tokeniser of an LLM folder. Raises ModelError where it is missing or broken."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ModelError(
            f"the tokeniser in '{folder}' cannot be loaded: {str(error).strip().splitlines()[0]}",
            "the folder needs tokenizer.json (or the vocabulary files of its tokeniser); fetch the LLM again",
        ) from None


class Collate:
    """Turns windows into a batch. An object, so that loader processes can receive it."""

    def __init__(self, encoder: PromptEncoder | NoPromptEncoder) -> None:
        self.encoder = encoder

    def __call__(self, windows: Windows | Sequence[Window]) -> Batch:
        if not isinstance(windows, Windows):
            windows = Windows.stack(windows)
        return Batch(
            history_BT=windows.history_BT,
            future_BH=windows.future_BH,
            channel_B=windows.channel_B,
            start_B=windows.start_B,
            prompt=self.encoder.encode(windows.history_BT),
        )
