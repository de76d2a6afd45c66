"""Which code runs an LLM, read off its config.json or the table."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.planning.cases import TINY
from timellm_cli.config import Config
from timellm_cli.planning.code_path import CodePath, find_code_path
from timellm_cli.planning.llm_shape import look_up_llm

HARDWARE = {"device": "cuda", "capture": "on", "recompute": "on"}


def path(name: str, hardware: dict[str, str] | None = None, **llm: Any) -> CodePath:
    config = Config.model_validate({"llm": {"name": name, **llm}, "hardware": HARDWARE | (hardware or {})})
    return find_code_path(config, look_up_llm(name))


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("Qwen/Qwen2.5-3B", "decoder", None),
        ("meta-llama/Llama-3.1-8B", "decoder", None),
        ("mistralai/Mistral-7B-v0.3", "decoder", None),
        ("smollm2-135m", "decoder", None),
        ("Qwen/Qwen3-0.6B", "decoder", None),
        ("meta-llama/Llama-3.2-3B", "decoder", None),
        ("mistralai/Mistral-7B-v0.1", "transformers_two_passes", "its attention has a sliding window"),
        ("gpt2", "transformers_two_passes", "gpt2 is none of llama, mistral, qwen2, qwen3"),
        ("bert-base-uncased", "transformers_one_pass", "bert is none of llama, mistral, qwen2, qwen3"),
        ("none", "none", "there is no LLM"),
        ("Qwen/Qwen9-1T", None, "the LLM is not known"),
    ],
)
def test_the_table_decides_the_code_path(name: str, code: str | None, reason: str | None) -> None:
    ours = code == "decoder"
    assert path(name) == CodePath(code, reason, captured=ours, recompute=ours)  # type: ignore[arg-type]


def test_the_code_path_is_given_even_where_readiness_refuses() -> None:
    """Readiness refuses it; the path is what there would be."""
    on_cpu = path("smollm2-135m", {"device": "cpu"})
    assert (on_cpu.captured, on_cpu.recompute) == (False, True)
    launched = path("smollm2-135m", {"capture": "off", "recompute": "off"})
    assert (launched.captured, launched.recompute) == (False, False)


def test_transformers_can_be_chosen() -> None:
    asked = path("Qwen/Qwen2.5-3B", implementation="transformers")
    assert (asked.code, asked.reason) == ("transformers_two_passes", "llm.implementation says so")


def test_a_folders_own_config_json_decides(tmp_path: Path) -> None:
    keys = {"model_type": "llama", **TINY["llama"]}
    (tmp_path / "config.json").write_text(json.dumps(keys), encoding="utf-8")
    assert path(str(tmp_path)).code == "decoder"
    (tmp_path / "config.json").write_text(json.dumps({**keys, "hidden_act": "gelu"}), encoding="utf-8")
    assert path(str(tmp_path)).reason == "its MLP uses gelu, not silu"


def test_weights_in_torchs_own_format_go_to_transformers(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **TINY["llama"]}), encoding="utf-8")
    (tmp_path / "pytorch_model.bin").write_bytes(b"weights")
    found = path(str(tmp_path))
    assert found.code == "transformers_two_passes"
    assert found.reason == "it has no model.safetensors, whole or in shards"
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert path(str(tmp_path)).code == "decoder"


def test_an_unknown_entry_of_config_json_is_named_and_left_to_transformers(tmp_path: Path) -> None:
    """It may change the arithmetic."""
    keys = {"model_type": "llama", **TINY["llama"], "residual_multiplier": 0.22}
    (tmp_path / "config.json").write_text(json.dumps(keys), encoding="utf-8")
    found = path(str(tmp_path))
    assert found.code == "transformers_two_passes"
    assert found.reason == "our decoder does not know the entry residual_multiplier of its config.json"


@pytest.mark.parametrize("name", ["dtype", "architectures", "use_cache", "eos_token_id", "transformers_version"])
def test_an_entry_that_leaves_the_arithmetic_alone_is_read_over(tmp_path: Path, name: str) -> None:
    keys = {"model_type": "llama", **TINY["llama"], name: "anything"}
    (tmp_path / "config.json").write_text(json.dumps(keys), encoding="utf-8")
    assert path(str(tmp_path)).code == "decoder"


def test_nf4_needs_matrices_of_whole_blocks(tmp_path: Path) -> None:
    odd = {"model_type": "llama", **TINY["llama"], "hidden_size": 36, "head_dim": 10, "intermediate_size": 50}
    (tmp_path / "config.json").write_text(json.dumps(odd), encoding="utf-8")
    assert path(str(tmp_path), quantization="nf4").reason == "its matrices do not divide into blocks of 64 weights"
    for quantization in ("int8", "none"):
        assert path(str(tmp_path), quantization=quantization).code == "decoder"


def test_of_an_llm_of_unknown_size_the_passes_are_not_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "opt"}), encoding="utf-8")
    assert path(str(tmp_path)).code == "transformers"
