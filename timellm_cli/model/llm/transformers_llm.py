"""An LLM run by its own code in transformers: any that our decoder does not run (see `choice.py`).

A causal LLM reads the prompt without autograd and gives its keys and values to the patches: no prompt position sees a
patch, so nothing is lost, and only patch positions keep activations. The prompt's prefix is read once, when the model
is loaded. Other LLMs (such as BERT) read all tokens in one pass.
"""

import copy
from logging import CRITICAL, getLogger
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from timellm_cli.config import LLMConfig
from timellm_cli.data.batch import PromptTokens
from timellm_cli.errors import ModelError
from timellm_cli.llm_files import read_llm_config
from timellm_cli.model.llm.tensor_files import LOADING_FAULTS, unloadable

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TransformersLLM(nn.Module):
    """A frozen language model that reads a prompt and then tokens made of patches."""

    llm: Any
    recording_key = None

    def __init__(self, llm: nn.Module, reads_in_two_passes: bool | None = None) -> None:
        """`reads_in_two_passes=None` tries on a few tokens whether the prompt can be read apart from the patches."""
        super().__init__()
        self.llm = llm.requires_grad_(False).eval()
        self.hidden_size: int = self.llm.config.hidden_size
        self.max_positions: int = getattr(self.llm.config, "max_position_embeddings", None) or 2048
        self.prefix: tuple[int, ...] = ()
        self._prefix_cache: Any = None
        if reads_in_two_passes is None:
            reads_in_two_passes = self._prompt_stands_alone()
        self.reads_in_two_passes = reads_in_two_passes

    @property
    def embedding_VE(self) -> Tensor:
        """The table of token embeddings, V x E."""
        return self.llm.get_input_embeddings().weight

    @property
    def dtype(self) -> torch.dtype:
        """The number format the LLM computes in."""
        return self.embedding_VE.dtype

    @torch.inference_mode(False)
    @torch.no_grad()
    def set_prefix(self, prefix: tuple[int, ...]) -> None:
        """Read the token ids that every prompt begins with. To be called once."""
        self.prefix, self._prefix_cache = prefix, None
        if prefix and self.reads_in_two_passes:
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
        read = self._read_in_two_passes if self.reads_in_two_passes else self._read_in_one_pass
        return read(prompt, tokens_BPE.to(self.dtype)).float()

    def _embed(self, ids_BK: Tensor) -> Tensor:
        with torch.no_grad():
            embedded_BKE: Tensor = self.llm.get_input_embeddings()(ids_BK)
        return embedded_BKE

    def _read_in_one_pass(self, prompt: PromptTokens, tokens_BPE: Tensor) -> Tensor:
        prompt = prompt.joined()
        mask, positions = _mask_and_positions(prompt.mask_BK, tokens_BPE.shape[1])
        output = self.llm(
            inputs_embeds=torch.cat([self._embed(prompt.ids_BK), tokens_BPE], dim=1),
            attention_mask=mask,
            position_ids=positions,
        )
        return output.last_hidden_state[:, -tokens_BPE.shape[1] :]

    def _read_in_two_passes(self, prompt: PromptTokens, tokens_BPE: Tensor) -> Tensor:
        mask, positions = _mask_and_positions(prompt.joined().mask_BK, tokens_BPE.shape[1])
        prefix_len, prompt_len = len(prompt.prefix), prompt.length
        cache = copy.deepcopy(self._prefix_cache)
        if cache is not None:
            cache.batch_repeat_interleave(len(mask))
        if prompt_len > prefix_len:
            with torch.no_grad():
                cache = self.llm(
                    inputs_embeds=self._embed(prompt.ids_BK),
                    attention_mask=mask[:, :prompt_len],
                    position_ids=positions[:, prefix_len:prompt_len],
                    past_key_values=cache,
                    use_cache=True,
                ).past_key_values
        return self.llm(
            inputs_embeds=tokens_BPE,
            attention_mask=mask,
            position_ids=positions[:, prompt_len:],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state

    @torch.no_grad()
    def _prompt_stands_alone(self) -> bool:
        """Whether two passes give the same as one pass, tried on two unequal prompts of a few tokens."""
        ids_BK = torch.tensor([[2, 3, 4], [0, 3, 4]], device=self.embedding_VE.device)
        mask_BK = torch.ones_like(ids_BK)
        mask_BK[1, 0] = 0
        prompt = PromptTokens(ids_BK, mask_BK, prefix=(0, 1))
        tokens_BPE = self._embed(ids_BK.flip(1))
        expected = self._read_in_one_pass(prompt, tokens_BPE).float()
        self.reads_in_two_passes = True
        try:
            self.set_prefix(prompt.prefix)
            found = self._read_in_two_passes(prompt, tokens_BPE).float()
        except (TypeError, ValueError, AttributeError, RuntimeError):
            return False
        finally:
            self.set_prefix(())
        tolerance = 1e-4 if self.dtype == torch.float32 else 5e-2
        return bool((found - expected).norm() <= tolerance * expected.norm())


def _mask_and_positions(mask_BK: Tensor, patches: int) -> tuple[Tensor, Tensor]:
    """Mask and position ids of prompt and patches together, both B x (K + P)."""
    mask = torch.cat([mask_BK, mask_BK.new_ones(len(mask_BK), patches)], dim=1)
    return mask, (mask.cumsum(dim=1) - 1).clamp_min(0)


def load_with_transformers(llm: LLMConfig, precision: str, folder: Path, device: torch.device) -> TransformersLLM:
    """Read the first `llm.layers` layers of the LLM in `folder` and freeze them.

    `precision` is fp32, bf16 or fp16; with nf4 or int8 it is the format of the arithmetic. Raises ModelError where the
    files are missing or broken.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    # It logs an error where an optional package that would speed up 4-bit arithmetic on a CPU is absent.
    getLogger("bitsandbytes").setLevel(CRITICAL)
    try:
        model = AutoModel.from_pretrained(
            folder,
            config=truncated_config(llm, folder),
            dtype=DTYPES[precision],
            quantization_config=_quantization(llm, DTYPES[precision]),
            device_map={"": device},
            local_files_only=True,
            trust_remote_code=False,
        )
    except LOADING_FAULTS as error:
        raise unloadable(folder, error) from error
    _keep_backward_on_cpu(model)
    return TransformersLLM(model)


def _keep_backward_on_cpu(model: nn.Module) -> None:
    """bitsandbytes repacks 4-bit weights for CPUs with AVX512-BF16 at the first call without autograd, which our prompt
    pass is. The repacked form has no backward pass, and gradients through it would silently be wrong.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            vars(module)["support_avx512bf16_for_cpu"] = False


def read_config(folder: Path) -> Any:
    """An LLM's config.json as transformers understands it. Raises ModelError where it does not."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each family has checks of its own, which raise any error
        if "auto_map" in read_llm_config(folder):
            raise ModelError(
                f"the LLM in '{folder}' comes with code of its own, which is never run",
                "choose one that transformers knows",
            ) from None
        raise unloadable(folder, error) from error


def truncated_config(llm: LLMConfig, folder: Path) -> Any:
    """The config.json of the first `llm.layers` layers. Raises ModelError where there are fewer, or none fit."""
    config = read_config(folder)
    if config.is_encoder_decoder:
        raise ModelError(
            f"{llm.name} is an encoder-decoder, and patches can go through one of them only",
            "choose an encoder-only or decoder-only LLM",
        )
    available = config.num_hidden_layers
    if llm.layers == "all":
        return config
    if llm.layers > available:
        raise ModelError(
            f"llm.layers is {llm.layers}, but {llm.name} has {available} layers", f"use --layers {available} or 'all'"
        )
    config.num_hidden_layers = llm.layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: llm.layers]
    return config


def _quantization(llm: LLMConfig, dtype: torch.dtype) -> Any:
    if llm.quantization == "none":
        return None
    from transformers import BitsAndBytesConfig

    if llm.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=llm.double_quant,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=torch.uint8,
    )
