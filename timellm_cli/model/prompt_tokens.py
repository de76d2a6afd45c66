"""From histories to prompt tokens with their mask: statistics of each window, its text, its token ids.

The prefix of a prompt is the run of tokens that every prompt of a run begins with. It is fixed when the model is
loaded, so the LLM reads it once.
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from timellm_cli.data.batch import PromptTokens
from timellm_cli.errors import ModelError
from timellm_cli.model.prompt import PromptText, WindowStatistics, many_kinds, require_known, require_tokens
from timellm_cli.model.time_llm import normalise

_TIE = 1e-9
"""Autocorrelations closer than this share of the largest are equal. The noise of a float64 FFT is far smaller."""

TokenLists = list[list[int]]


class PromptEncoder:
    """Writes the prompt of each history and turns it into tokens. It can be sent to a loader's process."""

    def __init__(
        self,
        text: PromptText,
        tokenizer: Any,
        max_tokens: int,
        patches: int = 0,
        multiple_of: int = 1,
        keep_prefix: bool = True,
        words: int | None = None,
    ) -> None:
        """`max_tokens` is how many positions the LLM has for the prompt, beside the patches; `words` is how many tokens
        it knows. Raises ModelError for a tokeniser that does not fit.

        Suffixes are padded until prompt and patches together are a multiple of `multiple_of`: so batches have few
        different shapes, and each can be captured once. Without `keep_prefix`, the prefix is empty.
        """
        self.text, self.max_tokens, self.patches = text, max_tokens, patches
        self._multiple_of = multiple_of
        self._tokenizer = PromptTokenizer(text, tokenizer, keep_prefix, words)
        self.longest, self._words = self._tokenizer.longest, words

    @property
    def prefix(self) -> tuple[int, ...]:
        """The token ids that every prompt begins with, special tokens included."""
        return self._tokenizer.prefix

    def encode(self, history_BT: Tensor, series: Sequence[str] = ()) -> PromptTokens:
        """Prompts of standardised histories, B x T, of channels with the names `series` (B, or empty).

        Raises ModelError where a prompt is too long: it is never cut.
        """
        scaled_BT, _ = normalise(history_BT)
        statistics = window_statistics(scaled_BT, self.text.top_lags)
        names = series or [""] * len(statistics)
        return self.encode_texts([self.text.render(*sample) for sample in zip(statistics, names, strict=True)])

    def encode_texts(self, prompts: list[str]) -> PromptTokens:
        """Tokens of ready prompts, with the tokeniser's own special tokens, padded on the left."""
        suffixes = self._tokenizer.suffixes(prompts)
        lengths_B = np.fromiter(map(len, suffixes), dtype=np.int64, count=len(suffixes))
        longest = len(self.prefix) + int(lengths_B.max())
        if longest > self.max_tokens:
            raise ModelError(
                f"a prompt has {longest:,} tokens, but the LLM has {self.max_tokens:,} positions before the patches",
                "shorten prompt.description or prompt.template, or use fewer prompt.decimals",
            )
        width = longest - len(self.prefix) + -(longest + self.patches) % self._multiple_of
        mask_BK = np.arange(width) >= width - lengths_B[:, None]
        ids_BK = np.zeros((len(suffixes), width), dtype=np.int64)
        ids_BK[mask_BK] = np.fromiter(chain.from_iterable(suffixes), dtype=np.int64, count=lengths_B.sum())
        require_known(int(ids_BK.max(initial=0)), self._words)
        return PromptTokens(torch.from_numpy(ids_BK), torch.from_numpy(mask_BK.astype(np.int64)), self.prefix)


class NoPromptEncoder:
    """The encoder of the model without an LLM: prompts of no tokens."""

    prefix: tuple[int, ...] = ()

    def encode(self, history_BT: Tensor, series: Sequence[str] = ()) -> PromptTokens:  # noqa: ARG002
        """B prompts of no tokens."""
        empty_B0 = torch.zeros(len(history_BT), 0, dtype=torch.int64)
        return PromptTokens(empty_B0, empty_B0)


class PromptTokenizer:
    """Texts to the very token ids that the tokeniser's own call gives for whole prompts, by a faster way.

    Two shortcuts are tried on prompts of many kinds when the tokeniser is loaded, and used only where they give the
    same ids: calling the fast library below the tokeniser directly, and tokenising only what follows the prefix.
    """

    def __init__(self, text: PromptText, tokenizer: Any, keep_prefix: bool = True, words: int | None = None) -> None:
        self._tokenizer, self._text = tokenizer, text.prefix
        prompts = [text.render(statistics) for statistics in many_kinds(text.top_lags)]
        whole = self._call(prompts)
        self.longest = max(map(len, whole))
        bare = self._call(prompts, specials=False)
        require_tokens(prompts, bare, whole, words)
        self._fast = (
            hasattr(getattr(tokenizer, "backend_tokenizer", None), "encode_batch_fast")
            and self._call_library(prompts) == whole
            and self._call_library(prompts, specials=False) == bare
        )
        self.prefix: tuple[int, ...] = ()
        self._end: list[int] | None = None
        if self._text and keep_prefix:
            self.prefix, is_whole = self._find_prefix(whole)
            if is_whole:
                self._end = self._find_end(prompts, whole)

    def suffixes(self, prompts: list[str]) -> TokenLists:
        """The tokens of each prompt behind the prefix. Raises ModelError for a prompt that begins with other tokens."""
        if self._end is not None and all(prompt.startswith(self._text) for prompt in prompts):
            texts = [prompt[len(self._text) :] for prompt in prompts]
            return [suffix + self._end for suffix in self._encode(texts, specials=False)]
        cut, sequences = len(self.prefix), self._encode(prompts)
        if any(tuple(sequence[:cut]) != self.prefix for sequence in sequences):
            raise ModelError(
                "the tokeniser begins a prompt with other tokens than the rest of the run", "use --no-keep-prefix"
            )
        return [sequence[cut:] for sequence in sequences]

    def _find_prefix(self, whole: TokenLists) -> tuple[tuple[int, ...], bool]:
        """The tokens that all sequences begin with, within the constant text; and whether they are all of it.

        They are read off the sequences, because a tokeniser may join the end of the constant text to what follows.
        """
        constant: list[int] = self._call([self._text], specials=False)[0]
        specials = next((at for at in range(3) if whole[0][at : at + 1] == constant[:1]), 0)
        longest = specials + len(constant)
        common = next(
            (at for at in range(longest) if len({tuple(sequence[at : at + 1]) for sequence in whole}) > 1), longest
        )
        prefix = tuple(whole[0][:common])
        return prefix, bool(constant) and list(prefix[specials:]) == constant

    def _find_end(self, prompts: list[str], whole: TokenLists) -> list[int] | None:
        """The special tokens after a prompt, if prefix, the text behind it and these join to every whole prompt."""
        suffixes = self._encode([prompt[len(self._text) :] for prompt in prompts], specials=False)
        end = whole[0][len(self.prefix) + len(suffixes[0]) :]
        joined = [[*self.prefix, *suffix, *end] for suffix in suffixes]
        return end if joined == whole else None

    def _encode(self, texts: list[str], specials: bool = True) -> TokenLists:
        return self._call_library(texts, specials) if self._fast else self._call(texts, specials)

    def _call(self, texts: list[str], specials: bool = True) -> TokenLists:
        sequences: TokenLists = self._tokenizer(texts, add_special_tokens=specials)["input_ids"]
        return sequences

    def _call_library(self, texts: list[str], specials: bool = True) -> TokenLists:
        """In two thirds of the time of `_call`."""
        found = self._tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=specials)
        return [encoding.ids for encoding in found]


def window_statistics(scaled_BT: Tensor, top_lags: int) -> list[WindowStatistics]:
    """The statistics of each window-normalised history, B x T."""
    lags = top_autocorrelation_lags(scaled_BT, top_lags).tolist()
    minima, maxima = scaled_BT.amin(dim=1).tolist(), scaled_BT.amax(dim=1).tolist()
    middle = (scaled_BT.shape[1] - 1) // 2
    medians = np.partition(scaled_BT.numpy(), middle, axis=1)[:, middle].tolist()  # four times as fast as torch.median
    upward = (scaled_BT[:, -1] > scaled_BT[:, 0]).tolist()
    columns = zip(minima, maxima, medians, upward, map(tuple, lags), strict=True)
    return [WindowStatistics(*column) for column in columns]


def top_autocorrelation_lags(scaled_BT: Tensor, count: int) -> Tensor:
    """The `count` shifts of highest circular autocorrelation, highest first; B x count, int64.

    Lags k and T-k tie by mathematics, and multiples of a period tie in periodic data. In the original, the rounding of
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
