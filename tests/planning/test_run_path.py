"""Which way a run takes through the LLM, told from its config.json or the table."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.planning.cases import TINY
from timellm_cli.config import Config
from timellm_cli.llm_files import fingerprint_llm
from timellm_cli.model.llm import seam_record
from timellm_cli.planning.llm_shape import RunPath, find_path, look_up_llm

HARDWARE = {"device": "cuda", "capture": "on", "recompute": "on"}


def path(name: str, hardware: dict[str, str] | None = None, **llm: Any) -> RunPath:
    config = Config.model_validate({"llm": {"name": name, **llm}, "hardware": HARDWARE | (hardware or {})})
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
    ours = implementation == "decoder"
    assert path(name) == RunPath(implementation, reason, captured=ours, recompute=ours)  # type: ignore[arg-type]


def test_what_cannot_be_is_not_told() -> None:
    """Readiness refuses it; the path is what there would be."""
    on_cpu = path("smollm2-135m", {"device": "cpu"})
    assert (on_cpu.captured, on_cpu.recompute) == (False, True)
    launched = path("smollm2-135m", {"capture": "off", "recompute": "off"})
    assert (launched.captured, launched.recompute) == (False, False)


def test_transformers_can_be_asked_for() -> None:
    asked = path("Qwen/Qwen2.5-3B", implementation="transformers")
    assert (asked.implementation, asked.reason) == ("transformers_two_passes", "llm.implementation says so")


def test_a_folder_tells_the_path_by_its_own_file(tmp_path: Path) -> None:
    keys = {"model_type": "llama", **TINY["llama"]}
    (tmp_path / "config.json").write_text(json.dumps(keys), encoding="utf-8")
    assert path(str(tmp_path)).implementation == "decoder"
    (tmp_path / "config.json").write_text(json.dumps({**keys, "hidden_act": "gelu"}), encoding="utf-8")
    assert path(str(tmp_path)).reason == "its MLP uses gelu, not silu"


def test_weights_in_torchs_own_format_are_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **TINY["llama"]}), encoding="utf-8")
    (tmp_path / "pytorch_model.bin").write_bytes(b"weights")
    told = path(str(tmp_path))
    assert told.implementation == "transformers_two_passes"
    assert told.reason == "it has no model.safetensors, whole or in shards"
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert path(str(tmp_path)).implementation == "decoder"


def test_what_an_earlier_start_found_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An LLM's files are looked into only where one with the same config.json came out otherwise."""
    keys = {"model_type": "llama", **TINY["llama"]}
    folders = tmp_path / "one", tmp_path / "another"
    for folder in folders:
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(keys), encoding="utf-8")
        (folder / "model.safetensors").write_bytes(folder.name.encode())
    one, another = folders
    fingerprint = fingerprint_llm(one)
    looked_into = []
    monkeypatch.setattr(
        seam_record, "fingerprint_llm", lambda folder: (looked_into.append(folder), fingerprint_llm(folder))[1]
    )
    seam_record.record_difference("f" * 32, keys, 1e-6)
    assert (path(str(one)).reason, looked_into) == (None, [])
    seam_record.record_difference(fingerprint, {**keys, "rms_norm_eps": 1e-3}, 0.02)
    assert (path(str(one)).reason, looked_into) == (None, [])
    seam_record.record_difference(fingerprint, keys, 0.02)
    assert path(str(one)).reason == "its first layer comes out 2e-02 away from transformers'"
    assert path(str(another)).reason is None
    assert looked_into == [one, another]
    seam_record.record_difference(fingerprint, keys, math.inf)
    assert path(str(one)).reason == "it has weights whose names our decoder does not know"


def test_nf4_needs_matrices_of_whole_blocks(tmp_path: Path) -> None:
    odd = {"model_type": "llama", **TINY["llama"], "hidden_size": 36, "head_dim": 9, "intermediate_size": 50}
    (tmp_path / "config.json").write_text(json.dumps(odd), encoding="utf-8")
    assert path(str(tmp_path), quantization="nf4").reason == "its matrices do not divide into blocks of 64 weights"
    for quantization in ("int8", "none"):
        assert path(str(tmp_path), quantization=quantization).implementation == "decoder"


def test_of_an_llm_of_unknown_size_the_passes_are_not_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "opt"}), encoding="utf-8")
    assert path(str(tmp_path)).implementation == "transformers"
