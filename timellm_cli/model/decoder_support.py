"""Which LLMs `model/decoder.py` reads, told from their config.json alone. Light."""

from collections.abc import Mapping
from typing import Any

_FAMILIES = ("llama", "mistral", "qwen2")


def why_not_decoder(keys: Mapping[str, Any]) -> str | None:
    """Why our own decoder cannot read the LLM of a config.json, or None if it can."""
    family = str(keys.get("model_type", "unnamed"))
    if family not in _FAMILIES:
        return f"{family} is none of {', '.join(_FAMILIES)}"
    if keys.get("hidden_act", "silu") != "silu":
        return f"its MLP uses {keys['hidden_act']}, not silu"
    if keys.get("sliding_window") and keys.get("use_sliding_window", family == "mistral"):
        return "its attention has a sliding window"
    if keys.get("attention_bias") or keys.get("mlp_bias"):
        return "its matrices have biases"
    kind = rope_of(keys).get("rope_type", "default")
    if kind not in ("default", "llama3"):
        return f"its rotary positions are scaled by '{kind}'"
    return None


def rope_of(keys: Mapping[str, Any]) -> dict[str, Any]:
    """How positions are written into queries and keys: the entries of `rope_parameters`, as of transformers 5.

    Older files say the same with `rope_theta` and `rope_scaling`.
    """
    rope = dict(keys.get("rope_parameters") or keys.get("rope_scaling") or {})
    rope.setdefault("rope_type", rope.pop("type", "default"))
    rope.setdefault("rope_theta", keys.get("rope_theta", 10_000.0))
    return rope
