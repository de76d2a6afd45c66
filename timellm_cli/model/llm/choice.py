"""Which code runs an LLM, our own decoder or transformers, and why. Light.

The answer follows from config.json alone, by an allow-list: each entry must be known, and must say what
`model/llm/decoder.py` computes. Anything else is left to transformers, which also says what is wrong with a nonsensical
file. Loading, planning and `inspect` ask `choose`, and `find_fault` what keeps the LLM's files from being loaded. Below
are the sizes that the decoder shares with its memory bill.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from timellm_cli.config import LLMConfig
from timellm_cli.llm_files import StoredTensor, read_headers, weight_files

NF4_BLOCK = 64
"""Weights that share a scale in NF4 (bitsandbytes' default; Dettmers et al., QLoRA, 2023, section 3)."""
STORED_NF4 = ("absmax", "quant_map", "quant_state.bitsandbytes__nf4")
"""What bitsandbytes stores beside a matrix in NF4: scales, the 16 values, and how it was quantised (JSON)."""
NESTED_BLOCK = 256
"""Scales that share one scale of scales under double quantization (same source)."""
WIDE_BYTES = 2**28
"""Largest size of an MLP's gate and up together: tokens pass through it in parts that still fill a GPU."""
INT8_AT_ONCE = 2**22
"""Weights that are rounded to int8 at a time (a whole row at least), in float32 twice."""
EMBEDDING_ROWS = 1024
"""Rows of the embedding table that a GPU holds at first; prompts with more different tokens make it grow."""
CONTEXT_MULTIPLE = 8
"""On a GPU, prompt and patches are padded to a multiple of so many tokens: fused attention requires it of its mask."""

_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_READ = ("model_type", *_SIZES, "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps")
"""Sizes and numbers that the decoder reads."""

_REQUIRED: dict[str, tuple[tuple[Any, ...], str]] = {
    "hidden_act": (("silu",), "its MLP uses {value}, not silu"),
    "attention_bias": ((None, False), "its matrices have biases"),
    "mlp_bias": ((None, False), "its matrices have biases"),
    "partial_rotary_factor": ((None, 1), "its rotary positions leave features out"),
    "is_causal": ((None, True), "its attention looks ahead"),
    "is_encoder_decoder": ((None, False), "it is an encoder-decoder"),
    "rope_interleaved": ((None, False), "its rotary positions are interleaved"),
    "use_mrope": ((None, False), "its rotary positions have several axes"),
}
"""Entries that change the arithmetic: the values that the decoder computes, and what to say of another."""

_ROPE = ("rope_theta", "rope_scaling", "rope_parameters")
_LLAMA3_ROPE = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
_ROPE_PARTS = {"rope_type", "type", "rope_theta", "partial_rotary_factor", *_LLAMA3_ROPE}
_WINDOW = ("sliding_window", "use_sliding_window", "max_window_layers", "layer_types")
_DEFAULT_WINDOW = {"mistral": 4096}
"""The window that transformers uses where config.json has no entry for it."""

_HARMLESS = (
    # Where it comes from, and how its files are kept.
    "_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "transformers.js_config",
    "is_llama_config", "unsloth_fixed", "unsloth_version",
    # Its tokenizer's and its generation's.
    "bos_token_id", "eos_token_id", "pad_token_id", "max_length", "max_sequence_length", "use_cache",
    # Only its training's, or its output head's.
    "attention_dropout", "initializer_range", "tie_word_embeddings", "id2label", "label2id", "problem_type",
    # How transformers computes the same.
    "_attn_implementation", "_attn_implementation_autoset", "attn_implementation", "chunk_size_feed_forward",
    "output_attentions", "output_hidden_states", "pretraining_tp", "return_dict", "use_return_dict",
)  # fmt: skip
"""Entries that leave the hidden states of these families as they are, whatever they say."""

_KNOWN = {"quantization_config", *_READ, *_REQUIRED, *_ROPE, *_WINDOW, *_HARMLESS}


@dataclass(frozen=True)
class Choice:
    """The code that runs an LLM; `reason` says why it is not our own decoder, and is empty where it is."""

    code: Literal["decoder", "transformers"]
    reason: str


def choose(llm: LLMConfig, keys: Mapping[str, Any], folder: Path | None) -> Choice:
    """Which code runs the LLM with the config.json entries `keys`.

    `folder` holds its files, None before they are fetched: weights that are missing are expected as safetensors.
    """
    reason = next(_obstacles(llm, keys, folder), "")
    return Choice("transformers" if reason else "decoder", reason)


def _obstacles(llm: LLMConfig, keys: Mapping[str, Any], folder: Path | None) -> Iterator[str]:
    """What keeps our decoder from running the LLM. Each check may rely on those before it."""
    if llm.implementation == "transformers":
        yield "llm.implementation says so"
    family = str(keys.get("model_type", "unnamed"))
    if family not in _FAMILIES:
        yield f"{family} is none of {', '.join(_FAMILIES)}"
    yield from _number_obstacles(keys)
    if family == "qwen3" and not keys.get("head_dim"):  # transformers takes another width than that of other families
        yield "its config.json does not say head_dim"
    heads, kv_heads, _ = heads_of(keys)
    if heads % kv_heads:
        yield f"its {heads} query heads are no multiple of its {kv_heads} key-value heads"
    yield from _stored_obstacles(llm, keys, folder)
    if llm.quantization == "nf4" and any(rows * columns % NF4_BLOCK for rows, columns in matrix_shapes(keys).values()):
        yield f"its matrices do not divide into blocks of {NF4_BLOCK} weights"
    if (width := heads_of(keys)[2]) < 2 or width % 2:
        yield f"its heads are {width} wide, which rotary positions cannot be"
    for name, (values, reason) in _REQUIRED.items():
        if name in keys and keys[name] not in values:
            yield reason.format(value=keys[name])
    window = keys.get("sliding_window", _DEFAULT_WINDOW.get(family))
    if window and keys.get("use_sliding_window", family == "mistral"):
        yield "its attention has a sliding window"
    layers = keys.get("layer_types") or []
    if not isinstance(layers, list) or any(layer != "full_attention" for layer in layers):
        yield "its layers are not all of full attention"
    yield from _rope_obstacles(keys)
    if unknown := sorted(keys.keys() - _KNOWN):
        yield f"our decoder does not know the entry {', '.join(unknown)} of its config.json"
    if folder is not None and any(path.suffix == ".bin" for path in weight_files(folder)):
        yield "it has no model.safetensors, whole or in shards"


def _stored_obstacles(llm: LLMConfig, keys: Mapping[str, Any], folder: Path | None) -> Iterator[str]:
    """What keeps our decoder from weights that are quantised in their files.

    It takes those of bitsandbytes in NF4. The rows of queries, and the columns that read them, are put into another
    order, head by head, so a head must be whole blocks.
    """
    kind = quantization_of(keys)
    if kind is None or llm.weights == "random":
        return
    if kind != "nf4" or llm.quantization != "nf4":
        yield f"its weights are quantised already ({kind})"
    heads, kv_heads, width = heads_of(keys)
    if keys["hidden_size"] % NF4_BLOCK or (heads != kv_heads and width % NF4_BLOCK):
        yield f"its weights are quantised already, in blocks of {NF4_BLOCK} that its heads do not divide into"
    matrices = [name for name in names_of_tensors(keys, 1) if name.endswith("_proj.weight")]
    stored = read_headers(folder) if folder else {}
    for name, tensor in stored.items():
        is_matrix = ".layers." in f".{name}" and any(name.endswith(end.split(".", 2)[2]) for end in matrices)
        if is_matrix and tensor.dtype != "U8":
            yield f"its weights are quantised already, but for '{name}'"


def _number_obstacles(keys: Mapping[str, Any]) -> Iterator[str]:
    if missing := [name for name in _SIZES if not _is_count(keys.get(name))]:
        yield f"its config.json does not say {', '.join(missing)}"
    for name in ("num_key_value_heads", "head_dim"):
        if keys.get(name) is not None and not _is_count(keys[name]):
            yield f"its {name} is {keys[name]!r}"
    if not _is_count(keys.get("max_position_embeddings", 1)):
        yield f"its max_position_embeddings is {keys['max_position_embeddings']!r}"
    if not isinstance(keys.get("rms_norm_eps", 0.0), int | float):
        yield f"its rms_norm_eps is {keys['rms_norm_eps']!r}"


def _rope_obstacles(keys: Mapping[str, Any]) -> Iterator[str]:
    given = [keys[name] for name in ("rope_parameters", "rope_scaling") if keys.get(name)]
    if len(given) > 1 or not all(isinstance(entries, Mapping) for entries in given):
        yield "its rotary positions are not described by one object"
    rope = rope_of(keys)
    if rope["rope_type"] not in ("default", "llama3"):
        yield f"its rotary positions are scaled by '{rope['rope_type']}'"
    numbers = ("rope_theta", *(_LLAMA3_ROPE if rope["rope_type"] == "llama3" else ()))
    if missing := [name for name in numbers if not isinstance(rope.get(name), int | float)]:
        yield f"its rotary positions lack {', '.join(missing)}"
    if rope.get("partial_rotary_factor", 1) != 1:
        yield "its rotary positions leave features out"
    if unknown := sorted(rope.keys() - _ROPE_PARTS):
        yield f"our decoder does not know {', '.join(unknown)} of its rotary positions"


@dataclass(frozen=True)
class Fault:
    """What keeps an LLM's files from being used, and what to do about it."""

    message: str
    remedy: str = "fetch the LLM again, or check that the folder holds config.json and all its safetensors files"


def find_fault(llm: LLMConfig, keys: Mapping[str, Any], folder: Path) -> Fault | None:
    """Why the LLM in `folder` cannot be loaded, by config.json and the headers of its files; None if they show nothing.

    For our own decoder None means that every tensor of the layers used is there, with the right shape. For other LLMs
    transformers decides. Raises ModelError where a file is damaged.
    """
    if (folder / "adapter_config.json").is_file():
        return Fault("it is an adapter (LoRA) for an LLM", "merge it into its LLM and give the folder of that")
    if fault := _fault_of_quantization(llm, keys):
        return fault
    if llm.weights == "random":
        return None
    stored = read_headers(folder)
    if choose(llm, keys, folder).code == "transformers":
        return None
    layers = keys["num_hidden_layers"] if llm.layers == "all" else min(llm.layers, keys["num_hidden_layers"])
    faults = list(islice(_faults_of_tensors(keys, stored, layers), 1000))
    more = f", and {len(faults) - 1:,} faults more" if len(faults) > 1 else ""
    return Fault(faults[0] + more) if faults else None


def quantization_of(keys: Mapping[str, Any]) -> str | None:
    """How an LLM's weights are quantised in its files: 'nf4' or 'int8' by bitsandbytes, another name, or None."""
    entries = keys.get("quantization_config") or keys.get("quantization")
    if not isinstance(entries, Mapping):
        return "an unknown way" if entries else None
    if entries.get("load_in_8bit"):
        return "int8"
    kind = entries.get("bnb_4bit_quant_type", "fp4") if entries.get("load_in_4bit") else entries.get("quant_method")
    return str(kind or "MLX")


def _fault_of_quantization(llm: LLMConfig, keys: Mapping[str, Any]) -> Fault | None:
    """Weights that are quantised already are loaded as they are, or not at all."""
    kind = quantization_of(keys)
    if kind is None or kind == llm.quantization:
        return None
    detail = f"its weights are quantised already ({kind}), but llm.quantization is {llm.quantization}"
    if kind in ("nf4", "int8"):
        return Fault(detail, f"use --quantization {kind}, or a copy of the LLM in 16 bits")
    return Fault(detail, "use a copy of the LLM in 16 bits: --quantization nf4 or int8 quantises it while it is loaded")


def _faults_of_tensors(keys: Mapping[str, Any], stored: Mapping[str, StoredTensor], layers: int) -> Iterator[str]:
    """Tensors of the decoder's first `layers` layers that are missing, or of another shape or kind than expected."""
    by_name, packed = (
        {name.removeprefix("model."): tensor for name, tensor in stored.items()},
        bool(quantization_of(keys)),
    )
    for name in names_of_tensors(keys, layers):
        tensor, expected = by_name.get(name), shape_of_tensor(keys, name)
        if packed and name.endswith("_proj.weight"):
            yield from _faults_of_packed(by_name, name, math.prod(expected))
            continue
        if tensor is None:
            yield f"it has no tensor '{name}'"
        elif tensor.shape != expected:
            yield f"'{name}' is {tensor.shape}, but config.json says {expected}"
        elif tensor.dtype not in ("F64", "F32", "F16", "BF16"):
            yield f"'{name}' holds numbers of type {tensor.dtype}"
    parts = {name.split(".", 2)[2] for name in names_of_tensors(keys, 1) if name.startswith("layers.")}
    for name in by_name:
        if name.startswith("layers.") and name.endswith(".bias") and name.split(".", 2)[2] not in parts:
            yield f"config.json says nothing of '{name}'"


def _faults_of_packed(by_name: Mapping[str, StoredTensor], name: str, weights: int) -> Iterator[str]:
    """What is wrong with a matrix that bitsandbytes has stored in NF4, two weights a byte."""
    for part in ("", *(f".{end}" for end in STORED_NF4)):
        if name + part not in by_name:
            yield f"it has no tensor '{name}{part}'"
    for part, count in (("", weights // 2), (".absmax", weights // NF4_BLOCK)):
        found = by_name.get(name + part)
        if found and math.prod(found.shape) != count:
            yield f"'{name}{part}' is {found.shape}, but config.json says {weights:,} weights, so {count:,} numbers"


def names_of_tensors(keys: Mapping[str, Any], layers: int) -> Iterator[str]:
    """The tensors that the decoder reads, by their published names."""
    yield from ("embed_tokens.weight", "norm.weight")
    for layer in range(layers):
        for name in _shapes_of_layer(keys):
            yield f"layers.{layer}.{name}"


def shape_of_tensor(keys: Mapping[str, Any], name: str) -> tuple[int, ...]:
    """A tensor's shape according to config.json. Raises KeyError for a name that no Llama-like LLM has."""
    if name.startswith("layers."):
        return _shapes_of_layer(keys)[name.split(".", 2)[2]]
    hidden = keys["hidden_size"]
    return {"embed_tokens.weight": (keys["vocab_size"], hidden), "norm.weight": (hidden,)}[name]


def _shapes_of_layer(keys: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, middle = keys["hidden_size"], keys["intermediate_size"]
    heads, kv_heads, width = heads_of(keys)
    outputs = {"q": heads * width, "k": kv_heads * width, "v": kv_heads * width}
    return {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        **{f"self_attn.{part}_proj.weight": (outputs[part], hidden) for part in "qkv"},
        **({f"self_attn.{part}_proj.bias": (outputs[part],) for part in "qkv"} if has_biases(keys) else {}),
        **({f"self_attn.{part}_norm.weight": (width,) for part in "qk"} if has_head_norms(keys) else {}),
        "self_attn.o_proj.weight": (hidden, heads * width),
        "mlp.gate_proj.weight": (middle, hidden),
        "mlp.up_proj.weight": (middle, hidden),
        "mlp.down_proj.weight": (hidden, middle),
    }


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value > 0


def has_biases(keys: Mapping[str, Any]) -> bool:
    """Whether q, k and v have biases."""
    return bool(keys["model_type"] == "qwen2")


def has_head_norms(keys: Mapping[str, Any]) -> bool:
    """Whether each head's query and key pass a norm before they are rotated."""
    return bool(keys["model_type"] == "qwen3")


def heads_of(keys: Mapping[str, Any]) -> tuple[int, int, int]:
    """Query heads, key-value heads and the width of a head."""
    heads = keys["num_attention_heads"]
    return heads, keys.get("num_key_value_heads") or heads, keys.get("head_dim") or keys["hidden_size"] // heads


def matrix_shapes(keys: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Rows and columns of each of a layer's matrices, in the form that our own decoder keeps them in."""
    hidden, middle = keys["hidden_size"], keys["intermediate_size"]
    heads, kv_heads, width = heads_of(keys)
    return {
        "qkv": ((heads + 2 * kv_heads) * width, hidden),
        "out": (hidden, heads * width),
        "gate_up": (2 * middle, hidden),
        "down": (hidden, middle),
    }


def rope_of(keys: Mapping[str, Any]) -> dict[str, Any]:
    """How positions are written into queries and keys: the entries of `rope_parameters`, as of transformers 5.

    Older files say the same with `rope_theta` and `rope_scaling`.
    """
    rope = dict(keys.get("rope_parameters") or keys.get("rope_scaling") or {})
    rope.setdefault("rope_type", rope.pop("type", "default"))
    rope.setdefault("rope_theta", keys.get("rope_theta", 10_000.0))
    return rope
