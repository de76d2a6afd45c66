"""From an LLM's folder to our decoder: its tensors by their published names, quantised layer by layer."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from timellm_cli.config import LLMConfig
from timellm_cli.model.decoder import Decoder
from timellm_cli.model.decoder_layer import DecoderLayer
from timellm_cli.model.decoder_support import rope_of
from timellm_cli.model.embedding import Embedding
from timellm_cli.model.frozen_matrix import FrozenMatrix, freeze

Read = Callable[[str], Tensor]


def build_decoder(
    keys: Mapping[str, Any], read: Read, layers: int, llm: LLMConfig, dtype: torch.dtype, device: torch.device
) -> Decoder:
    """`read` gives a tensor on the CPU by its name, such as 'layers.0.mlp.up_proj.weight'."""

    def build(index: int) -> DecoderLayer:
        def fetch(*names: str) -> Tensor:
            return torch.cat([read(f"layers.{index}.{name}").to(device, dtype) for name in names])

        def frozen(*names: str) -> FrozenMatrix:
            assert llm.quantization != "auto"
            return freeze(fetch(*(f"{name}.weight" for name in names)), llm.quantization, llm.double_quant)

        qkv = [f"self_attn.{name}_proj" for name in "qkv"]
        return DecoderLayer(
            qkv=frozen(*qkv),
            out=frozen("self_attn.o_proj"),
            gate_up=frozen("mlp.gate_proj", "mlp.up_proj"),
            down=frozen("mlp.down_proj"),
            input_norm_E=fetch("input_layernorm.weight"),
            middle_norm_E=fetch("post_attention_layernorm.weight"),
            qkv_bias=fetch(*(f"{name}.bias" for name in qkv)) if keys["model_type"] == "qwen2" else None,
            heads=keys["num_attention_heads"],
            kv_heads=keys.get("num_key_value_heads") or keys["num_attention_heads"],
            eps=keys.get("rms_norm_eps", 1e-6),
        )

    return Decoder(
        Embedding(read("embed_tokens.weight"), device, dtype),
        [build(index) for index in range(layers)],
        read("norm.weight").to(device, dtype),
        rotary_frequencies(keys).to(device),
        keys.get("max_position_embeddings", 2048),
    )


def rotary_frequencies(keys: Mapping[str, Any]) -> Tensor:
    """Radians a token of each pair of features, R/2, float32.

    'llama3' slows low frequencies down by `factor`, with a smooth passage between two wavelengths (Llama 3.1).
    """
    width = keys.get("head_dim") or keys["hidden_size"] // keys["num_attention_heads"]
    rope = rope_of(keys)
    frequencies = rope["rope_theta"] ** -(torch.arange(0, width, 2, dtype=torch.float32) / width)
    if rope["rope_type"] != "llama3":
        return frequencies
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    share = ((turns - low) / (high - low)).clamp(0, 1)
    return frequencies * (share + (1 - share) / factor)
