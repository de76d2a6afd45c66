"""What is measured: the plain path, ours as it is, and the steps between them, each with the settings that make it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """One way to train the same model.

    `settings` are configuration values by their key.
    """

    name: str
    is_plain: bool = False
    compact_mapping: bool = True
    published: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


def _ours(capture: str = "on", recompute: str = "off", implementation: str = "auto", **more: Any) -> dict[str, Any]:
    return {
        "hardware.capture": capture, "hardware.recompute": recompute, "llm.implementation": implementation,
        "hardware.prepared": False, **more,
    }  # fmt: skip


TORCH = {"hardware.kernels": "torch"}

VARIANTS = {
    "published": Variant(
        "plain, keeps attention maps, prints all digits",
        is_plain=True,
        compact_mapping=False,
        published=True,
        settings={"prompt.decimals": "all"},
    ),
    "plain": Variant("plain", is_plain=True, compact_mapping=False),
    "compact": Variant("+ compact mapping", is_plain=True),
    "two-passes": Variant(
        "+ no gradient for prompt",
        settings=_ours("off", implementation="transformers", **{"hardware.keep_prefix": False}),
    ),
    "prefix-once": Variant("+ prefix read once", settings=_ours("off", implementation="transformers")),
    "decoder": Variant("+ our decoder, torch's kernels", settings=_ours("off", **TORCH)),
    "captured": Variant("+ captured", settings=_ours(**TORCH)),
    "triton": Variant("+ Triton ops", settings=_ours()),
    "triton-eager": Variant("Triton ops, not captured", settings=_ours("off")),
    "triton-recompute": Variant("+ recompute", settings=_ours(recompute="on")),
    "ours": Variant("ours", settings=_ours()),
    "ours-recompute": Variant("ours, recompute", settings=_ours(recompute="on")),
    "ours-16": Variant("ours, not quantised", settings=_ours(**{"llm.quantization": "none"})),
}
LADDER = (
    "published", "plain", "compact", "two-passes", "prefix-once", "decoder", "captured", "triton", "triton-recompute",
    "triton-eager",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One row of the table. `cap` are the bytes that the process may take of the GPU, its context included.

    `settings` are configuration values by their key, over those of the variant.
    """

    part: str
    variant: str
    shape: str
    layers: int
    batch: int
    quantization: str = "nf4"
    seq_len: int = 512
    cap: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
