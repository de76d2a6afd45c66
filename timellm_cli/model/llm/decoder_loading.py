"""From an LLM's tensors to our decoder: layers are quantised on their device, or read from an earlier start's files."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from timellm_cli.config import LLMConfig
from timellm_cli.errors import ModelError
from timellm_cli.llm_files import read_headers, unloadable
from timellm_cli.model.llm.choice import (
    NF4_BLOCK,
    has_biases,
    has_head_norms,
    heads_of,
    matrix_shapes,
    quantization_of,
    rope_of,
)
from timellm_cli.model.llm.decoder import Decoder, Embedding
from timellm_cli.model.llm.decoder_layer import DecoderLayer
from timellm_cli.model.llm.frozen_matrix import make_matrix, quantise
from timellm_cli.model.llm.ops import Kernels, TorchOps, choose_ops
from timellm_cli.model.llm.prepared import PreparedFiles
from timellm_cli.model.llm.stored_nf4 import Read, by_group, join_nf4, read_nf4

_QKV = tuple(f"self_attn.{part}_proj" for part in "qkv")
_MATRICES = {
    "qkv": _QKV,
    "out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
"""Our matrices, and the published ones that each holds one above the other."""
_HEAD_NORMS = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
_NORMS = {"input_norm_E": "input_layernorm.weight", "middle_norm_E": "post_attention_layernorm.weight"}


def open_tensors(folder: Path) -> Read:
    """A function that gives a Llama-like LLM's tensor, on the CPU and in its stored format, by its published name.

    Names are those of the LLM without a head, such as 'layers.0.mlp.up_proj.weight', whether or not they are stored
    with 'model.' in front. Files are mapped into memory: only what is used is read from the disk. `find_fault` says
    before whether all tensors are there. Opening and reading raise ModelError where a file is damaged.
    """
    stored = {name.removeprefix("model."): (name, tensor.file) for name, tensor in read_headers(folder).items()}
    try:
        files = {path: safe_open(path, framework="pt") for path in {path for _, path in stored.values()}}
    except (OSError, SafetensorError) as error:
        raise unloadable(folder, error) from error

    def read(name: str) -> Tensor:
        published, path = stored[name]
        try:
            tensor: Tensor = files[path].get_tensor(published)
        except (OSError, SafetensorError) as error:
            raise unloadable(folder, error) from error
        return tensor

    return read


def build_decoder(
    keys: Mapping[str, Any],
    read: Read,
    layers: int,
    llm: LLMConfig,
    dtype: torch.dtype,
    device: torch.device,
    prepared: PreparedFiles | None = None,
    kernels: Kernels = "auto",
    on_note: Callable[[str], None] = lambda _: None,
) -> Decoder:
    """The decoder's first `layers` layers; `read` gives a tensor on the CPU by its name, such as 'norm.weight'.

    Quantised layers are read from `prepared`, or made and written there for the next start. Each is made before the
    next is read, so memory holds little more than the quantised layers. `on_note` is called where kernels are not those
    expected. Raises ModelError where `kernels` cannot be had.
    """
    assert llm.quantization != "auto"
    ops = choose_ops(device, kernels, on_note)
    if llm.quantization == "none" or quantization_of(keys):
        prepared = None  # nothing would be saved
    if prepared:
        prepared.read_ahead(_prepared_name(llm, index) for index in range(layers))
    last_norm_E = read("norm.weight").to(device, dtype)
    require_finite("norm.weight", last_norm_E)
    return Decoder(
        Embedding(read("embed_tokens.weight"), device, dtype),
        [
            _build_layer(keys, _layer_tensors(keys, read, index, llm, dtype, device, prepared), dtype, device, ops)
            for index in range(layers)
        ],
        last_norm_E,
        rotary_frequencies(keys).to(device),
        keys.get("max_position_embeddings", 2048),
    )


def _prepared_name(llm: LLMConfig, index: int) -> str:
    kind = "nf4-double" if llm.quantization == "nf4" and llm.double_quant else llm.quantization
    return f"{kind}-layer-{index}"


def _layer_tensors(
    keys: Mapping[str, Any],
    read: Read,
    index: int,
    llm: LLMConfig,
    dtype: torch.dtype,
    device: torch.device,
    prepared: PreparedFiles | None,
) -> dict[str, Tensor]:
    """The tensors of a layer, by the names of `DecoderLayer`'s buffers.

    Those of `prepared` are on the CPU, mapped from the file; others on `device`. Matrices are quantised from the format
    they are stored in, so prepared files serve every `dtype`; unquantised ones are in `dtype`.
    """
    if prepared is None:
        return _make_layer(keys, read, index, llm, dtype, device)
    name = _prepared_name(llm, index)
    tensors = prepared.read(name)
    if tensors is None or not _is_whole(keys, tensors, llm.quantization):
        tensors = _make_layer(keys, read, index, llm, dtype, device)
        prepared.write(name, tensors)
    return tensors


def _make_layer(
    keys: Mapping[str, Any], read: Read, index: int, llm: LLMConfig, dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    def fetch(names: Iterable[str]) -> Tensor:
        return torch.cat([by_group(keys, name, fetch_one(f"layers.{index}.{name}")) for name in names])

    def fetch_one(name: str) -> Tensor:
        tensor = read(name).to(device)
        require_finite(name, tensor)
        return tensor

    tensors = {ours: fetch([theirs]) for ours, theirs in _NORMS.items()}
    if has_biases(keys):
        tensors["qkv_bias"] = fetch(f"{name}.bias" for name in _QKV)
    if has_head_norms(keys):
        each = zip(_HEAD_NORMS, heads_of(keys), strict=False)  # of a query head and a key-value head
        tensors["head_norms_hR"] = torch.cat([fetch([name]).expand(heads, -1) for name, heads in each])
    for ours, theirs in _MATRICES.items():
        if quantization_of(keys) and llm.weights == "pretrained":
            parts = join_nf4([read_nf4(keys, read, f"layers.{index}.{name}.weight", device) for name in theirs])
            tensors |= {f"{ours}.{name}": tensor for name, tensor in parts.items()}
            continue
        weight_OI = fetch(f"{name}.weight" for name in theirs)
        weight_OI = weight_OI.to(dtype) if llm.quantization == "none" else weight_OI
        parts = quantise(weight_OI, llm.quantization, llm.double_quant)
        tensors |= {f"{ours}.{name}": tensor for name, tensor in parts.items()}
    return tensors


def require_finite(name: str, tensor: Tensor) -> None:
    """Raise ModelError where a tensor of an LLM holds NaN or infinity."""
    if tensor.is_floating_point() and tensor.numel() and not all(map(torch.isfinite, torch.aminmax(tensor))):
        raise ModelError(f"the LLM's tensor '{name}' holds values that are not finite (NaN)", "fetch the LLM again")


def _is_whole(keys: Mapping[str, Any], tensors: Mapping[str, Tensor], quantization: str) -> bool:
    """Whether prepared tensors have all numbers of a layer of this shape."""
    counts = dict.fromkeys(_NORMS, keys["hidden_size"])
    for ours, (outputs, inputs) in matrix_shapes(keys).items():
        if quantization == "nf4":
            counts |= {f"{ours}.packed": outputs * inputs // 2, f"{ours}.absmax": -(-outputs * inputs // NF4_BLOCK)}
        else:
            counts |= {f"{ours}.bytes_OI": outputs * inputs, f"{ours}.scale_O": outputs}
    if has_head_norms(keys):
        heads, kv_heads, width = heads_of(keys)
        counts["head_norms_hR"] = (heads + kv_heads) * width
    if has_biases(keys):
        counts["qkv_bias"] = matrix_shapes(keys)["qkv"][0]
    return all(name in tensors and tensors[name].numel() == count for name, count in counts.items())


def _build_layer(
    keys: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device, ops: TorchOps
) -> DecoderLayer:
    heads, kv_heads, _ = heads_of(keys)
    vectors = {name: tensor.to(device, dtype) for name, tensor in tensors.items() if "." not in name}
    matrices = {}
    for ours, shape in matrix_shapes(keys).items():
        start = f"{ours}."
        parts = {name.removeprefix(start): part.to(device) for name, part in tensors.items() if name.startswith(start)}
        matrices[ours] = make_matrix(shape, parts, ops)
    return DecoderLayer(
        **matrices,
        input_norm_E=vectors["input_norm_E"],
        middle_norm_E=vectors["middle_norm_E"],
        qkv_bias=vectors.get("qkv_bias"),
        head_norms_hR=vectors.get("head_norms_hR"),
        heads=heads,
        kv_heads=kv_heads,
        eps=keys.get("rms_norm_eps", 1e-6),
        ops=ops,
    )


def rotary_frequencies(keys: Mapping[str, Any]) -> Tensor:
    """Radians a token of each pair of features, R/2, float32.

    'llama3' divides low frequencies by `factor`, with a smooth transition between two wavelengths (Llama 3.1).
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
