"""Texts to token ids, by the shortest way that gives the very ids of the plain one: the tails alone, in one call.

The plain way is the tokeniser's own call on whole prompts. Both shortcuts are tried on prompts of many kinds when the
tokeniser is new, and one that gives other ids there is not taken: a tokeniser may join the end of the constant head
with what follows, or do something before its fast library is reached.
"""

from dataclasses import dataclass
from typing import Any

from timellm_cli.model.prompt import PromptText, WindowStatistics

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
