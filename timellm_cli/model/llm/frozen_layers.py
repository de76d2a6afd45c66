"""What a frozen layer is made of: quantised on the target device, or read from the cache of an earlier start."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from timellm_cli.config import LLMConfig
from timellm_cli.model.llm.decoder_support import NF4_BLOCK, heads_of, matrix_shapes
from timellm_cli.model.llm.frozen_matrix import freeze
from timellm_cli.model.llm.llm_tensors import Read
from timellm_cli.model.llm.prepared import Prepared

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
