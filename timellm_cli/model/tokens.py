"""From histories to prompt tokens with their mask."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from timellm_cli.errors import ModelError
from timellm_cli.model.normalise import normalise
from timellm_cli.model.prompt import PromptText
from timellm_cli.model.statistics import window_statistics
from timellm_cli.model.tokenise import Tokenise


@dataclass(frozen=True)
class PromptTokens:
    """Prompts of a batch: `head`, the token ids that every prompt begins with, and the tails, ids and mask of B x K.

    The tails (int64; mask 1: a token, 0: padding) are padded on the left, so that the last prompt token stands beside
    the first patch, whatever the batch-mates' lengths are.
    """

    ids_BK: Tensor
    mask_BK: Tensor
    head: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """Tokens of the longest prompt, head and padding included."""
        return len(self.head) + self.ids_BK.shape[1]

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Ids and mask."""
        return self.ids_BK, self.mask_BK

    def joined(self) -> "PromptTokens":
        """The same prompts with the head repeated in front of every tail, and no head apart."""
        head_BK = self.ids_BK.new_tensor(self.head).expand(len(self.ids_BK), -1)
        return PromptTokens(
            torch.cat([head_BK, self.ids_BK], dim=1), torch.cat([torch.ones_like(head_BK), self.mask_BK], dim=1)
        )

    def to(self, device: torch.device) -> "PromptTokens":
        """The same on another device."""
        return PromptTokens(
            self.ids_BK.to(device, non_blocking=True), self.mask_BK.to(device, non_blocking=True), self.head
        )


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
