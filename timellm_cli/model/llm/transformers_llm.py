"""An LLM run by its own code in transformers: any that our decoder does not run (see `choice.py`).

A causal LLM reads the prompt without autograd and gives its keys and values to the patches: no prompt position sees a
patch, so nothing is lost, and only patch positions keep activations. The prompt's prefix is read once, when the model
is loaded. Other LLMs (such as BERT) read all tokens in one pass.

Prompts of a batch differ in length, and the shorter ones are padded. Not every LLM masks padding wherever it lies, or
counts positions from 0. So before its first run, `choose_reading` compares a padded batch with what transformers does
of itself with each sample alone. Where they differ, samples of one length are read together, without padding.
"""

import copy
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from timellm_cli.data.batch import PromptTokens
from timellm_cli.errors import ModelError
from timellm_cli.model.llm.fp16_products import keep_numbers_wide
from timellm_cli.model.llm.prepared import PreparedFiles
from timellm_cli.model.runner import is_out_of_memory


class Reading(NamedTuple):
    """How prompts and patches are read: in two passes or one, and in a padded batch or by length.

    In a padded batch, positions are given, from `first_position` on; by length, transformers counts for itself.
    """

    in_two_passes: bool
    by_length: bool
    first_position: int = 0


ALONE = Reading(in_two_passes=False, by_length=True)
"""What every LLM can do, and what all other readings are compared with."""
_WINDOWS = ("sliding_window", "window_size", "local_attention", "attention_chunk_size")


class TransformersLLM(nn.Module):
    """A frozen language model that reads a prompt and then tokens made of patches."""

    llm: Any
    recording_key = None

    def __init__(self, llm: nn.Module) -> None:
        super().__init__()
        self.llm = llm.requires_grad_(False).eval()
        if self.dtype == torch.float16:
            keep_numbers_wide(self.llm)
        self.hidden_size: int = self.llm.config.hidden_size
        self.reading = ALONE
        self.prefix: tuple[int, ...] = ()
        self._prefix_cache: Any = None

    @property
    def max_positions(self) -> int:
        """Tokens that the LLM can read. Of a RoBERTa's positions, the first ones are left to padding."""
        count: int = getattr(self.llm.config, "max_position_embeddings", None) or 2048
        return count - self._first_positions[-1]

    @property
    def _first_positions(self) -> list[int]:
        """Positions that the first token may have: 0, or behind that of padding where the table has one."""
        tables = [part for name, part in self.llm.named_modules() if name.endswith("position_embeddings")]
        skipped = next((part.padding_idx for part in tables if getattr(part, "padding_idx", None) is not None), None)
        return [0] if skipped is None else [0, skipped + 1]

    @property
    def depth(self) -> int:
        """How many layers there are."""
        count: int = self.llm.config.num_hidden_layers
        return count

    @property
    def embedding_VE(self) -> Tensor:
        """The table of token embeddings, V x E."""
        return self.llm.get_input_embeddings().weight

    @property
    def dtype(self) -> torch.dtype:
        """The number format the LLM computes in."""
        return self.embedding_VE.dtype

    @property
    def passing_dtype(self) -> torch.dtype:
        """The number format of what passes the layers (see `fp16_products.py`)."""
        return torch.float32 if self.dtype == torch.float16 else self.dtype

    @torch.inference_mode(False)
    @torch.no_grad()
    def set_prefix(self, prefix: tuple[int, ...]) -> None:
        """Read the token ids that every prompt begins with. To be called once, after `choose_reading`."""
        self.prefix, self._prefix_cache = prefix, None
        if prefix and self.reading.in_two_passes:
            embedded_1KE = self._embed(torch.tensor([prefix], device=self.embedding_VE.device))
            self._prefix_cache = self.llm(inputs_embeds=embedded_1KE, use_cache=True).past_key_values

    def prepare(self, prompt: PromptTokens) -> None:
        """Nothing has to be prepared for a prompt."""

    def train(self, mode: bool = True) -> "TransformersLLM":  # noqa: ARG002
        """Stays in evaluation mode: the LLM's own dropout is never switched on."""
        return super().train(False)

    def forward(self, prompt: PromptTokens, tokens_BPE: Tensor) -> Tensor:
        """The LLM's last hidden states at the patches, B x P x E, float32.

        Padding is masked and counts for no position. The prompt's prefix must be that of `set_prefix`.
        """
        assert prompt.prefix == self.prefix, "the prompt begins with another prefix than the one that was read"
        tokens_BPE = tokens_BPE.to(self.passing_dtype)
        read = self._read_in_two_passes if self.reading.in_two_passes else self._read_in_one_pass
        if not self.reading.by_length:
            mask = _mask(prompt.joined(), tokens_BPE.shape[1])
            positions = (mask.cumsum(dim=1) - 1).clamp_min(0) + self.reading.first_position
            return read(prompt, tokens_BPE, mask, positions).float()
        lengths_B, rows, pieces = prompt.mask_BK.sum(dim=1), [], []
        for length in lengths_B.unique().tolist():
            rows.append((lengths_B == length).nonzero().squeeze(1))
            cut = prompt.ids_BK.shape[1] - length
            alone = PromptTokens(prompt.ids_BK[rows[-1], cut:], prompt.mask_BK[rows[-1], cut:], prompt.prefix)
            pieces.append(read(alone, tokens_BPE[rows[-1]]))
        return torch.cat(pieces)[torch.cat(rows).argsort()].float()

    def _embed(self, ids_BK: Tensor) -> Tensor:
        with torch.no_grad():
            embedded_BKE: Tensor = self.llm.get_input_embeddings()(ids_BK)
        return embedded_BKE.to(self.passing_dtype)

    def _read_in_one_pass(
        self, prompt: PromptTokens, tokens_BPE: Tensor, mask: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """Without a mask and positions, the prompts have no padding, and the LLM's own defaults hold."""
        embedded_BSE = torch.cat([self._embed(prompt.joined().ids_BK), tokens_BPE], dim=1)
        given = {} if mask is None else {"attention_mask": mask, "position_ids": positions}
        return self.llm(inputs_embeds=embedded_BSE, **given).last_hidden_state[:, -tokens_BPE.shape[1] :]

    def _read_in_two_passes(
        self, prompt: PromptTokens, tokens_BPE: Tensor, mask: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        prefix_len, prompt_len, samples = len(prompt.prefix), prompt.length, len(tokens_BPE)
        cache = copy.deepcopy(self._prefix_cache)
        if cache is not None:
            cache.batch_repeat_interleave(samples)

        def given(start: int, end: int | None) -> dict[str, Any]:
            if mask is None or positions is None:
                return {}
            return {"attention_mask": mask[:, :end], "position_ids": positions[:, start:end]}

        if prompt_len > prefix_len:
            with torch.no_grad():
                cache = self.llm(
                    inputs_embeds=self._embed(prompt.ids_BK),
                    past_key_values=cache,
                    use_cache=True,
                    **given(prefix_len, prompt_len),
                ).past_key_values
        return self.llm(
            inputs_embeds=tokens_BPE, past_key_values=cache, use_cache=True, **given(prompt_len, None)
        ).last_hidden_state

    @torch.inference_mode(False)
    @torch.no_grad()
    def choose_reading(self, prompt_len: int, prefix_len: int, patches: int, prepared: PreparedFiles | None) -> None:
        """Choose the fastest reading that gives what each sample alone gives, tried at the lengths of the run.

        What was found for these lengths, this number format and these versions is kept in `prepared`.
        """
        versions = f"{version('torch')}-{version('transformers')}".replace("+", "-")
        precise = self.dtype == torch.float32 and not getattr(self.llm, "is_quantized", False)
        form = f"{self.dtype}".removeprefix("torch.") + ("" if precise else "-rounded")
        lengths = f"{self.depth}-{prefix_len}-{prompt_len}-{patches}"
        name = f"reading-{lengths}-{form}-{self.embedding_VE.device.type}-{versions}"
        found = (prepared.read(name) if prepared else None) or {}
        if "reading" in found and found["reading"].shape == (3,):
            two_passes, by_length, first = found["reading"].tolist()
            self.reading = Reading(bool(two_passes), bool(by_length), first)
            return
        self.reading = self._try_readings(prompt_len, prefix_len, patches, 1e-4 if precise else 5e-2)
        if prepared:
            prepared.write(name, {"reading": torch.tensor(self.reading)})

    def _try_readings(self, prompt_len: int, prefix_len: int, patches: int, tolerance: float) -> Reading:
        """Tried on three prompts, one of them with half of its suffix cut off and padded."""
        words, suffix_len = len(self.embedding_VE), max(prompt_len - prefix_len, 4)
        ids = torch.arange(prefix_len + 3 * suffix_len, device=self.embedding_VE.device) * 7 % words
        suffixes_BK = ids[prefix_len:].view(3, suffix_len)
        mask_BK = torch.ones_like(suffixes_BK)
        mask_BK[2, : suffix_len // 2] = 0
        prompt = PromptTokens(suffixes_BK, mask_BK, tuple(ids[:prefix_len].tolist()))
        tokens_BPE = self._embed((torch.arange(3 * patches, device=ids.device) * 11 % words).view(3, patches))
        self.reading, expected = ALONE, None
        total = prefix_len + suffix_len + patches
        sees_all = all(total <= (getattr(self.llm.config, name, None) or total) for name in _WINDOWS)
        padded = [Reading(two, False, first) for first in self._first_positions for two in (True, False)]
        try:
            self.set_prefix(prompt.prefix)
            try:
                expected = self(prompt, tokens_BPE)
            except Exception as error:  # each family's code may raise any error
                if is_out_of_memory(error):
                    raise
                raise ModelError(
                    f"transformers cannot run this LLM of type {self.llm.config.model_type} here: {error!r:.200}",
                    "use --quantization none, or choose another LLM",
                ) from error
            for reading in [*(padded if sees_all else ()), Reading(in_two_passes=True, by_length=True)]:
                self.reading = reading
                try:
                    self.set_prefix(prompt.prefix)
                    found = self(prompt, tokens_BPE)
                except Exception as error:  # a family that cannot read in this way says so in its own manner
                    if is_out_of_memory(error):
                        raise
                    continue
                if bool((found - expected).norm() <= tolerance * expected.norm()):
                    return reading
            return ALONE
        finally:
            self.reading = ALONE
            self.set_prefix(())


def _mask(prompt: PromptTokens, patches: int) -> Tensor:
    """Which of prompt and patches are tokens and no padding, B x (K + P)."""
    return torch.cat([prompt.mask_BK, prompt.mask_BK.new_ones(len(prompt.mask_BK), patches)], dim=1)
