"""What a mixture of experts adds to the shape of an LLM: a router, and experts; each token uses a few of them. Light.

transformers keeps the experts of a layer as two tensors of three dimensions, and the router as one of two outside any
`Linear`. Quantization reaches neither, so they stay in 16 or 32 bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EXPERT_FAMILIES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe")
"""Mixtures of experts whose parameters are counted exactly, where every layer has experts."""

_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_experts_per_tok")


@dataclass(frozen=True)
class Mixture:
    """The experts of a layer. A token goes through `used` of them, weighted by its router, and the shared one, if any.

    `rescaled`: the weights of a token are divided by their sum. `in_float32`: they stay in float32, whatever the LLM's
    numbers are. `norms_heads`: all query heads are normed together, and so are the key-value heads.
    """

    experts: int
    used: int
    shared: int
    rescaled: bool
    in_float32: bool
    norms_heads: bool

    def token_bytes(self, hidden: int, size: int, one_by_one: bool) -> int:
        """What autograd keeps of a token beside its MLPs' inner numbers; `size` is a number's.

        For each of its experts: what that gives, its weight, and indices of 8 bytes. `one_by_one`: experts are not
        computed as one grouped product; then what is added up is kept as well.
        """
        weight = 4 if self.in_float32 else size
        row = hidden * size * (2 if one_by_one else 1) + weight + 8 * (3 if one_by_one else 4)
        shared = hidden * size + size if self.shared else 0
        return self.used * row + 4 * self.experts + (4 * self.used + 4 if self.rescaled else 0) + shared


def has_experts(keys: Mapping[str, Any]) -> bool:
    """Whether the keys of a config.json describe a mixture of experts."""
    counts = (keys.get(name) for name in _COUNTS)
    return any(type(count) is int and count > 1 for count in counts)


def experts_are_counted(keys: Mapping[str, Any], family: str) -> bool:
    """Whether the family is one that this module knows, with experts in every layer."""
    every_layer = keys.get("decoder_sparse_step", 1) == 1 and not keys.get("mlp_only_layers")
    return family in EXPERT_FAMILIES and every_layer


def count_experts(keys: Mapping[str, Any], family: str) -> tuple[int, int, Mixture]:
    """Parameters of a layer's router and experts, the width of all MLPs of one token, and the mixture.

    Raises KeyError or TypeError where a size is missing.
    """
    hidden = keys["hidden_size"]
    experts = keys["num_local_experts"] if family == "mixtral" else keys["num_experts"]
    inner = keys["moe_intermediate_size" if family.startswith("qwen") else "intermediate_size"]
    shared = keys["shared_expert_intermediate_size"] if family == "qwen2_moe" else 0
    used = keys.get("num_experts_per_tok") or _USED[family]
    mixture = Mixture(
        experts=experts,
        used=used,
        shared=shared,
        rescaled=family == "mixtral" or bool(keys.get("norm_topk_prob")),
        in_float32=family == "mixtral",
        norms_heads=family == "olmoe",
    )
    return experts * hidden * (1 + 3 * inner), used * inner + shared, mixture


_USED = {"mixtral": 2, "qwen2_moe": 4, "qwen3_moe": 8, "olmoe": 8}
"""Experts of a token where config.json does not say."""
