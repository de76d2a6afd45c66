"""From histories to prompt tokens with their mask."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from timellm_cli.errors import ModelError
from timellm_cli.model.normalise import normalise
from timellm_cli.model.prompt import PromptText
from timellm_cli.model.statistics import window_statistics


@dataclass(frozen=True)
class PromptTokens:
    """Token ids and mask (1: a token, 0: padding) of a batch of prompts; both B x K, int64.

    The first `head_len` columns hold the same tokens for every sample, without padding. The rest is padded on the left,
    so the last prompt token stands beside the first patch, whatever the batch-mates' lengths are.
    """

    ids_BK: Tensor
    mask_BK: Tensor
    head_len: int = 0

    def to(self, device: torch.device) -> "PromptTokens":
        """The same on another device."""
        return PromptTokens(
            self.ids_BK.to(device, non_blocking=True), self.mask_BK.to(device, non_blocking=True), self.head_len
        )


class PromptEncoder:
    """Writes the prompt of each history and tokenises it."""

    def __init__(self, text: PromptText, tokenizer: Any, max_tokens: int) -> None:
        """`max_tokens` is what the LLM's positions leave for the prompt."""
        self.text = text
        self.max_tokens = max_tokens
        self._tokenizer = tokenizer
        self._head_ids: list[int] = tokenizer(text.head, add_special_tokens=False)["input_ids"] if text.head else []

    def encode(self, history_BT: Tensor) -> PromptTokens:
        """Prompts of standardised histories. Raises ModelError where a prompt is too long: it is never cut."""
        scaled_BT, _ = normalise(history_BT)
        return self.encode_texts(
            [self.text.render(sample) for sample in window_statistics(scaled_BT, self.text.top_lags)]
        )

    def encode_texts(self, prompts: list[str]) -> PromptTokens:
        """Tokens of ready prompts, with the tokeniser's own special tokens."""
        sequences: list[list[int]] = self._tokenizer(prompts)["input_ids"]
        longest = max(map(len, sequences))
        if longest > self.max_tokens:
            raise ModelError(
                f"a prompt has {longest:,} tokens, but the LLM has room for {self.max_tokens:,} before the patches",
                "shorten prompt.description or prompt.template, or take fewer prompt.decimals",
            )
        head_len = self._common_head(sequences)
        ids_BK = torch.zeros(len(sequences), longest, dtype=torch.int64)
        mask_BK = torch.zeros_like(ids_BK)
        for row, sequence in enumerate(sequences):
            padding_stop = head_len + longest - len(sequence)
            for columns, tokens in (
                (slice(head_len), sequence[:head_len]),
                (slice(padding_stop, None), sequence[head_len:]),
            ):
                ids_BK[row, columns] = torch.tensor(tokens, dtype=torch.int64)
                mask_BK[row, columns] = 1
        return PromptTokens(ids_BK, mask_BK, head_len)

    def _common_head(self, sequences: list[list[int]]) -> int:
        """How many leading tokens (special ones included) are the template's head in every sequence: all of it or none.

        Read off the tokens themselves, because a tokeniser may join the end of the head with what follows.
        """
        specials = next((at for at in range(3) if sequences[0][at : at + 1] == self._head_ids[:1]), 0)
        head = sequences[0][:specials] + self._head_ids
        return len(head) if all(sequence[: len(head)] == head for sequence in sequences) else 0


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
