"""Which way a run takes through the LLM, told from its config.json or the table."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.planning.cases import TINY
from timellm_cli.config import Config
from timellm_cli.planning.llm_shape import look_up_llm
from timellm_cli.planning.run_path import RunPath, find_path


def path(name: str, **llm: Any) -> RunPath:
    config = Config.model_validate({"llm": {"name": name, **llm}, "hardware": {"capture": "on", "recompute": "off"}})
    return find_path(config, look_up_llm(name))


@pytest.mark.parametrize(
    ("name", "implementation", "reason"),
    [
        ("Qwen/Qwen2.5-3B", "decoder", None),
        ("meta-llama/Llama-3.1-8B", "decoder", None),
        ("mistralai/Mistral-7B-v0.3", "decoder", None),
        ("smollm2-135m", "decoder", None),
        ("mistralai/Mistral-7B-v0.1", "transformers_two_passes", "its attention has a sliding window"),
        ("gpt2", "transformers_two_passes", "gpt2 is none of llama, mistral, qwen2"),
        ("bert-base-uncased", "transformers_one_pass", "bert is none of llama, mistral, qwen2"),
        ("none", "none", "there is no LLM"),
        ("Qwen/Qwen9-1T", None, "the LLM is not known"),
    ],
)
def test_the_table_tells_the_path(name: str, implementation: str | None, reason: str | None) -> None:
    assert path(name) == RunPath(implementation, reason, captured=True, recompute=False)  # type: ignore[arg-type]


def test_transformers_can_be_asked_for() -> None:
    asked = path("Qwen/Qwen2.5-3B", implementation="transformers")
    assert (asked.implementation, asked.reason) == ("transformers_two_passes", "llm.implementation says so")


def test_a_folder_tells_the_path_by_its_own_file(tmp_path: Path) -> None:
    keys = {"model_type": "llama", **TINY["llama"]}
    (tmp_path / "config.json").write_text(json.dumps(keys), encoding="utf-8")
    assert path(str(tmp_path)).implementation == "decoder"
    (tmp_path / "config.json").write_text(json.dumps({**keys, "hidden_act": "gelu"}), encoding="utf-8")
    assert path(str(tmp_path)).reason == "its MLP uses gelu, not silu"


def test_of_an_llm_of_unknown_size_the_passes_are_not_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "opt"}), encoding="utf-8")
    assert path(str(tmp_path)).implementation == "transformers"
