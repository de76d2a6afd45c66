"""Mixtures of experts: parameters as transformers builds them, and experts that no quantization shrinks."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.planning.test_llm_shape import build_on_meta, count_on_meta
from tests.planning.test_plan import plan
from timellm_cli.planning.llm_shape import LLMShape, shape_of

BASE = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 257,
}  # fmt: skip
QWEN = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
KEYS: dict[str, dict[str, Any]] = {
    "mixtral": {**BASE, "num_local_experts": 4},
    "qwen2_moe": {**BASE, **QWEN, "shared_expert_intermediate_size": 48},
    "qwen3_moe": {**BASE, **QWEN, "head_dim": 32},
    "olmoe": {**BASE, "num_experts": 4, "num_experts_per_tok": 2},
}
PUBLISHED = {
    "mistralai/Mixtral-8x7B-v0.1": ("mixtral", 46_702_792_704, {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 32000, "num_local_experts": 8, "tie_word_embeddings": False,
    }),
    "Qwen/Qwen3-30B-A3B": ("qwen3_moe", 30_532_122_624, {
        "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_hidden_layers": 48,
        "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936,
        "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [],
        "tie_word_embeddings": False,
    }),
}  # fmt: skip


def shape(family: str, keys: dict[str, Any]) -> LLMShape:
    found = shape_of("mixture", {"model_type": family, **keys}, origin="test", tokenizer="other")
    assert found is not None and found.exact
    return found


@pytest.mark.parametrize("family", KEYS)
@pytest.mark.parametrize("layers", [1, 3])
def test_parameters_are_what_transformers_builds(family: str, layers: int) -> None:
    keys = {**KEYS[family], "num_hidden_layers": layers}
    assert shape(family, KEYS[family]).parameters(layers) == count_on_meta(family, keys)


@pytest.mark.parametrize("family", KEYS)
def test_what_quantization_shrinks_are_the_linear_modules_and_the_experts_are_not(family: str) -> None:
    from torch.nn import Linear

    layer = build_on_meta(family, KEYS[family]).layers[0]
    linear = [module.weight.numel() for module in layer.modules() if isinstance(module, Linear)]
    ours = shape(family, KEYS[family])
    assert sorted(one.weights for one in ours.linears) == sorted(linear)
    experts = [weight.numel() for name, weight in layer.named_parameters() if "experts" in name or ".gate." in name]
    assert ours.expert_parameters == sum(experts)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers_of_parameters(name: str) -> None:
    family, parameters, keys = PUBLISHED[name]
    assert shape(family, keys).file_parameters == parameters


def test_the_bill_has_a_line_of_experts_that_nf4_leaves_as_they_are(tmp_path: Path) -> None:
    keys = {"model_type": "qwen3_moe", **KEYS["qwen3_moe"], "dtype": "bfloat16"}
    (tmp_path / "config.json").write_text(json.dumps(keys), encoding="utf-8")
    planned = plan(llm={"name": str(tmp_path), "layers": 2})
    assert planned.memory is not None
    parts = {part.key: part.bytes for part in planned.memory.bill.parts}
    assert parts["experts"] == 2 * 6 * 64 * (1 + 3 * 32) * 4, "float32 on a CPU"


@pytest.mark.parametrize(
    "other",
    [
        {"model_type": "gpt_oss", "num_local_experts": 4},
        {"model_type": "deepseek_v3", "n_routed_experts": 4},
        {"model_type": "qwen3_moe", **QWEN, "decoder_sparse_step": 2},
        {"model_type": "qwen2_moe", **QWEN, "shared_expert_intermediate_size": 48, "mlp_only_layers": [0]},
    ],
)
def test_a_mixture_of_another_kind_has_no_verdict(other: dict[str, Any]) -> None:
    assert shape_of("mixture", {**BASE, **other}, origin="test", tokenizer="other") is None
