"""Which LLMs `model/llm/decoder.py` reads, told from their config.json alone, and sizes that its bill shares. Light.

Which code runs an LLM: the one rule that loading, planning and `inspect` share. Light.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from timellm_cli.config import LLMConfig
from timellm_cli.llm_files import has_tensors, has_weights
from timellm_cli.model.llm.seam_record import recorded_verdict

NF4_BLOCK = 64
"""Weights that share a scale in NF4 (bitsandbytes' default; Dettmers et al., QLoRA, 2023, section 3)."""
NESTED_BLOCK = 256
"""Scales that share one scale of scales under double quantization (same place)."""
WIDE_BYTES = 2**28
"""What an MLP's gate and up may take for a moment: tokens go through it in parts that still fill a GPU."""
EMBEDDING_ROOM = 1024
"""Rows of the embedding table that a GPU holds at first; prompts of more different tokens take more."""
CONTEXT_MULTIPLE = 8
"""On a GPU, prompt and patches together are a multiple of so many tokens, as fused attention wants its mask."""

_FAMILIES = ("llama", "mistral", "qwen2")
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_LLAMA3_NUMBERS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
_MISTRAL_WINDOW = 4096
"""What transformers takes where a Mistral's config.json says nothing of a window."""


def why_not_decoder(keys: Mapping[str, Any], quantization: str) -> str | None:
    """Why our own decoder cannot read the LLM of a config.json in a quantization, or None if it can.

    Another LLM is read through transformers, which also says what is wrong with a nonsensical config.json.
    """
    return next(_obstacles(keys, quantization), None)


def _obstacles(keys: Mapping[str, Any], quantization: str) -> Iterator[str]:
    """Each one may rely on those before not being there."""
    family = str(keys.get("model_type", "unnamed"))
    if family not in _FAMILIES:
        yield f"{family} is none of {', '.join(_FAMILIES)}"
    unsaid = [name for name in _SIZES if not (isinstance(keys.get(name), int) and keys[name] > 0)]
    if unsaid:
        yield f"its config.json does not say {', '.join(unsaid)}"
    heads, kv_heads, _ = heads_of(keys)
    if heads % kv_heads:
        yield f"its {heads} query heads are no multiple of its {kv_heads} key-value heads"
    if quantization == "nf4" and any(rows * columns % NF4_BLOCK for rows, columns in matrix_shapes(keys).values()):
        yield f"its matrices do not divide into blocks of {NF4_BLOCK} weights"
    if keys.get("quantization_config"):
        yield "its weights are quantised already"
    if keys.get("hidden_act", "silu") != "silu":
        yield f"its MLP uses {keys['hidden_act']}, not silu"
    default_window = _MISTRAL_WINDOW if family == "mistral" else None
    if keys.get("sliding_window", default_window) and keys.get("use_sliding_window", family == "mistral"):
        yield "its attention has a sliding window"
    if keys.get("attention_bias") or keys.get("mlp_bias"):
        yield "its matrices have biases"
    rope = rope_of(keys)
    if rope["rope_type"] not in ("default", "llama3"):
        yield f"its rotary positions are scaled by '{rope['rope_type']}'"
    needed = ("rope_theta", *(_LLAMA3_NUMBERS if rope["rope_type"] == "llama3" else ()))
    if unsaid := [name for name in needed if not isinstance(rope.get(name), int | float)]:
        yield f"its rotary positions lack {', '.join(unsaid)}"
    if rope.get("partial_rotary_factor", 1) != 1:
        yield "its rotary positions leave features out"


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


def why_transformers(llm: LLMConfig, keys: Mapping[str, Any], folder: Path | None) -> str | None:
    """Why the LLM with this config.json is run by transformers, or None where our own decoder runs it.

    `folder` is where its files are, None before they are fetched. Weights that are not there yet, and an LLM that was
    not yet compared with transformers' reading, are taken to be as they should.
    """
    if llm.implementation == "transformers":
        return "llm.implementation says so"
    reason = why_not_decoder(keys, llm.quantization)
    if reason or folder is None:
        return reason
    if has_weights(folder) and not has_tensors(folder):
        return "it has no model.safetensors, whole or in shards"
    return recorded_verdict(folder, keys)
