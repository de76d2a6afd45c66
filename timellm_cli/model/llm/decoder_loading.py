"""What a frozen layer is made of: quantised on the target device, or read from the cache of an earlier start.

From an LLM's tensors to our decoder.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from timellm_cli.config import LLMConfig
from timellm_cli.model.llm.choice import NF4_BLOCK, heads_of, matrix_shapes, rope_of
from timellm_cli.model.llm.decoder import Decoder, Embedding
from timellm_cli.model.llm.decoder_layer import DecoderLayer
from timellm_cli.model.llm.frozen_matrix import FrozenMatrix, FullMatrix, Int8Matrix, Nf4Matrix, freeze
from timellm_cli.model.llm.prepared import Prepared
from timellm_cli.model.llm.tensor_files import Read

_QKV = tuple(f"self_attn.{part}_proj" for part in "qkv")
_MATRICES = {
    "qkv": _QKV,
    "out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
"""Our matrices, and the published ones that each holds one above the other."""
_NORMS = {"input_norm_E": "input_layernorm.weight", "middle_norm_E": "post_attention_layernorm.weight"}


def layer_tensors(
    keys: Mapping[str, Any],
    read: Read,
    index: int,
    llm: LLMConfig,
    dtype: torch.dtype,
    device: torch.device,
    prepared: Prepared | None,
) -> dict[str, Tensor]:
    """The tensors of a layer, by the names of `DecoderLayer`'s buffers.

    From the cache they come on the CPU, mapped from the file, else on `device`. Matrices are quantised from the format
    they are stored in, so that what goes to the cache serves every `dtype`; unquantised ones are in `dtype`.
    """
    biased = keys["model_type"] == "qwen2"
    if prepared is None or llm.quantization == "none":
        return _freeze_layer(keys, read, index, llm, dtype, device)
    name = prepared_name(llm, index)
    found = prepared.read(name)
    if found is not None and _is_whole(keys, found, biased, llm.quantization):
        return found
    made = _freeze_layer(keys, read, index, llm, dtype, device)
    prepared.write(name, made)
    return made


def prepared_name(llm: LLMConfig, index: int) -> str:
    """Under which name a quantised layer is kept."""
    kind = "nf4-double" if llm.quantization == "nf4" and llm.double_quant else llm.quantization
    return f"{kind}-layer-{index}"


def _freeze_layer(
    keys: Mapping[str, Any], read: Read, index: int, llm: LLMConfig, dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    assert llm.quantization != "auto"

    def fetch(names: Iterable[str]) -> Tensor:
        return torch.cat([_by_group(keys, name, read(f"layers.{index}.{name}").to(device)) for name in names])

    tensors = {ours: fetch([theirs]) for ours, theirs in _NORMS.items()}
    if keys["model_type"] == "qwen2":
        tensors["qkv_bias"] = fetch(f"{name}.bias" for name in _QKV)
    for ours, theirs in _MATRICES.items():
        weight = fetch(f"{name}.weight" for name in theirs)
        matrix = freeze(weight.to(dtype) if llm.quantization == "none" else weight, llm.quantization, llm.double_quant)
        tensors |= {f"{ours}.{name}": tensor for name, tensor in matrix.state_dict().items()}
    return tensors


def _by_group(keys: Mapping[str, Any], name: str, tensor: Tensor) -> Tensor:
    """Query heads as `ops.split_heads` wants them: the first of every key-value head, then every second one."""
    _, kv_heads, width = heads_of(keys)
    if ".q_proj." in name:
        return tensor.unflatten(0, (kv_heads, -1, width)).transpose(0, 1).reshape(tensor.shape)
    if ".o_proj." in name:
        return tensor.unflatten(1, (kv_heads, -1, width)).transpose(1, 2).reshape(tensor.shape)
    return tensor


def _is_whole(keys: Mapping[str, Any], tensors: Mapping[str, Tensor], biased: bool, kind: str) -> bool:
    """Whether what came from the cache has all numbers of a layer of this shape."""
    counts = dict.fromkeys(_NORMS, keys["hidden_size"])
    for ours, (outputs, inputs) in matrix_shapes(keys).items():
        if kind == "nf4":
            counts |= {f"{ours}.packed": outputs * inputs // 2, f"{ours}.absmax": -(-outputs * inputs // NF4_BLOCK)}
        else:
            counts |= {f"{ours}.bytes_OI": outputs * inputs, f"{ours}.scale_O": outputs}
    if biased:
        counts["qkv_bias"] = matrix_shapes(keys)["qkv"][0]
    return all(name in tensors and tensors[name].numel() == count for name, count in counts.items())


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
