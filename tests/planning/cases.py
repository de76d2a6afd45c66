"""Tiny LLMs of every family, and training steps, that several tests of planning share."""

from typing import Any

from timellm_cli.config import ModelConfig
from timellm_cli.planning.case import Case
from timellm_cli.planning.llm_shape import LLMShape, look_up_llm, shape_of

_LLAMA_LIKE = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 160,
    "vocab_size": 300,
    "max_position_embeddings": 1024,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
TINY: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma2"), _LLAMA_LIKE),
    "gpt2": {
        "n_embd": 64,
        "n_layer": 3,
        "n_head": 4,
        "n_inner": 160,
        "vocab_size": 300,
        "n_positions": 1024,
        "bos_token_id": None,
        "eos_token_id": None,
    },
    "bert": {
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 160,
        "vocab_size": 300,
        "max_position_embeddings": 1024,
        "type_vocab_size": 2,
    },
}
"""A small config.json for each family, by model type."""


def tiny_shape(family: str, keys: dict[str, Any] | None = None) -> LLMShape:
    shape = shape_of(
        f"tiny-{family}", {"model_type": family, **(keys or TINY[family])}, origin="test", tokenizer="other"
    )
    assert shape is not None
    return shape


def known_shape(name: str) -> LLMShape:
    shape = look_up_llm(name)
    assert shape is not None
    return shape


def step(shape: LLMShape | None, **changes: Any) -> Case:
    """A step of the Qwen 6-layer run on a card, with changes."""
    values: dict[str, Any] = {
        "layers": min(6, shape.layers) if shape else 0,
        "batch": 8,
        "prompt": 146 if shape else 0,
        "patches": 64,
        "seq_len": 512,
        "pred_len": 96,
        "model": ModelConfig(),
        "quantization": "nf4" if shape else "none",
        "double_quant": True,
        "precision": "bf16",
        "optimizer": "adam",
        "on_gpu": True,
    }
    return Case(shape=shape, **(values | changes))
