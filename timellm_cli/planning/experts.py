"""What a mixture of experts adds to the shape of an LLM: a router, and experts; each token uses a few of them. Light.

transformers keeps the experts of a layer as two tensors of three dimensions, and the router as one of two outside any
`Linear`. Quantization reaches neither, so they stay in 16 or 32 bits.
"""

from collections.abc import Mapping
from typing import Any

EXPERT_FAMILIES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe")
"""Mixtures of experts whose parameters are counted exactly, where every layer has experts."""

_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_experts_per_tok")


def has_experts(keys: Mapping[str, Any]) -> bool:
    """Whether the keys of a config.json describe a mixture of experts."""
    counts = (keys.get(name) for name in _COUNTS)
    return any(type(count) is int and count > 1 for count in counts)


def experts_are_counted(keys: Mapping[str, Any], family: str) -> bool:
    """Whether the family is one that this module knows, with experts in every layer."""
    every_layer = keys.get("decoder_sparse_step", 1) == 1 and not keys.get("mlp_only_layers")
    return family in EXPERT_FAMILIES and every_layer


def count_experts(keys: Mapping[str, Any], family: str) -> tuple[int, int, int]:
    """Parameters of a layer's router and experts, the width of all MLPs of one token, and of the shared expert.

    Raises KeyError or TypeError where a size is missing.
    """
    hidden = keys["hidden_size"]
    experts = keys["num_local_experts"] if family == "mixtral" else keys["num_experts"]
    inner = keys["moe_intermediate_size" if family.startswith("qwen") else "intermediate_size"]
    shared = keys["shared_expert_intermediate_size"] if family == "qwen2_moe" else 0
    used = keys.get("num_experts_per_tok") or _USED[family]
    return experts * hidden * (1 + 3 * inner), used * inner + shared, shared


_USED = {"mixtral": 2, "qwen2_moe": 4, "qwen3_moe": 8, "olmoe": 8}
"""Experts of a token where config.json does not say."""
