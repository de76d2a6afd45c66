"""From an LLM's tensors to our decoder."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from timellm_cli.config import LLMConfig
from timellm_cli.model.llm.decoder import Decoder
from timellm_cli.model.llm.decoder_layer import DecoderLayer
from timellm_cli.model.llm.decoder_support import heads_of, matrix_shapes, rope_of
from timellm_cli.model.llm.embedding import Embedding
from timellm_cli.model.llm.frozen_layers import layer_tensors, prepared_name
from timellm_cli.model.llm.frozen_matrix import FrozenMatrix, FullMatrix, Int8Matrix, Nf4Matrix
from timellm_cli.model.llm.llm_tensors import Read
from timellm_cli.model.llm.prepared import Prepared


def build_decoder(
    keys: Mapping[str, Any],
    read: Read,
    layers: int,
    llm: LLMConfig,
    dtype: torch.dtype,
    device: torch.device,
    prepared: Prepared | None = None,
) -> Decoder:
    """The decoder's first `layers` layers; `read` gives a tensor on the CPU by its name, such as 'norm.weight'.

    Quantised layers are read from `prepared`, where it has them, and else left there for the next start. Each is
    quantised before the next is read, so memory holds little more than the quantised layers.
    """
    if prepared and llm.quantization != "none":
        prepared.read_ahead(prepared_name(llm, index) for index in range(layers))
    return Decoder(
        Embedding(read("embed_tokens.weight"), device, dtype),
        [
            _assemble(keys, layer_tensors(keys, read, index, llm, dtype, device, prepared), dtype, device)
            for index in range(layers)
        ],
        read("norm.weight").to(device, dtype),
        rotary_frequencies(keys).to(device),
        keys.get("max_position_embeddings", 2048),
    )


def _assemble(
    keys: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device
) -> DecoderLayer:
    heads, kv_heads, _ = heads_of(keys)
    shapes = matrix_shapes(keys)
    bias = tensors.get("qkv_bias")

    def matrix(ours: str) -> FrozenMatrix:
        parts = {
            name.removeprefix(f"{ours}."): tensor.to(device)
            for name, tensor in tensors.items()
            if name.startswith(f"{ours}.")
        }
        if "packed" in parts:
            return Nf4Matrix(shapes[ours], parts)
        return Int8Matrix(**parts) if "bytes_OI" in parts else FullMatrix(**parts)

    return DecoderLayer(
        qkv=matrix("qkv"),
        out=matrix("out"),
        gate_up=matrix("gate_up"),
        down=matrix("down"),
        input_norm_E=tensors["input_norm_E"].to(device, dtype),
        middle_norm_E=tensors["middle_norm_E"].to(device, dtype),
        qkv_bias=None if bias is None else bias.to(device, dtype),
        heads=heads,
        kv_heads=kv_heads,
        eps=keys.get("rms_norm_eps", 1e-6),
    )


def rotary_frequencies(keys: Mapping[str, Any]) -> Tensor:
    """Radians a token of each pair of features, R/2, float32.

    'llama3' slows low frequencies down by `factor`, with a smooth passage between two wavelengths (Llama 3.1).
    """
    width = heads_of(keys)[2]
    rope = rope_of(keys)
    frequencies = rope["rope_theta"] ** -(torch.arange(0, width, 2, dtype=torch.float32) / width)
    if rope["rope_type"] != "llama3":
        return frequencies
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    share = ((turns - low) / (high - low)).clamp(0, 1)
    return frequencies * (share + (1 - share) / factor)
