"""What is missing is found before a run, and each finding names the command that mends it."""

import importlib.util
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.planning.cases import TINY
from timellm_cli.config import Config
from timellm_cli.errors import ConfigError, DataError, ModelError
from timellm_cli.planning.hardware import Gpu, Machine
from timellm_cli.planning.readiness import Check, _check_disk, check_readiness, require_ready
from timellm_cli.units import GIB

CPU_ONLY = Machine(gpu=None, ram_free=12 * GIB, torch_has_cuda=False)
TOO_OLD = "Triton needs a card of capability 8.0, and this one has 7.5"
CARD = Gpu("NVIDIA GeForce RTX 3060", 12 * GIB, 11 * GIB, (8, 6))


def resolved(small_csv: Path, llm_name: Path | str, /, **sections: dict[str, Any]) -> Config:
    values: dict[str, dict[str, Any]] = {
        "data": {"dataset": "custom", "path": str(small_csv)},
        "llm": {"name": str(llm_name), "layers": "all", "quantization": "none"},
        "train": {"precision": "fp32"},
        "hardware": {"device": "cpu"},
    }
    for section, changes in sections.items():
        values[section] = values.get(section, {}) | changes
    return Config.model_validate(values)


def check(config: Config, name: str, machine: Machine = CPU_ONLY) -> Check:
    return next(found for found in check_readiness(config, machine) if found.name == name)


def test_nothing_is_missing_where_everything_is(small_csv: Path, tiny_llm: Path) -> None:
    checks = check_readiness(resolved(small_csv, tiny_llm), CPU_ONLY)
    assert [(found.name, found.ok) for found in checks] == [
        ("data", True), ("LLM", True), ("GPU", True), ("disk", True),
    ]  # fmt: skip
    require_ready(checks)


def test_everything_missing_is_in_one_error_with_every_command() -> None:
    config = Config.model_validate(
        {"llm": {"quantization": "none"}, "train": {"precision": "bf16"}, "hardware": {"device": "cuda"}}
    )
    with pytest.raises(ModelError) as raised:
        require_ready(check_readiness(config, CPU_ONLY))
    message, hint = raised.value.message, raised.value.hint
    assert all(f"- {name}: " in message for name in ("data", "LLM", "GPU"))
    assert "timellm fetch ETTm1; timellm fetch Qwen/Qwen2.5-3B; use --device cpu" in hint


def test_missing_data_alone_is_a_data_error(tiny_llm: Path) -> None:
    config = resolved(Path("absent.csv"), tiny_llm)
    with pytest.raises(DataError, match=r"no file absent\.csv"):
        require_ready(check_readiness(config, CPU_ONLY))


@pytest.mark.parametrize(
    ("removed", "lacking"),
    [(["model.safetensors"], "has no weights"), (["tokenizer.json"], "has no tokenizer")],
)
def test_an_llm_folder_that_is_not_whole_is_named_with_what_it_lacks(
    small_csv: Path, tiny_llm: Path, tmp_path: Path, removed: list[str], lacking: str
) -> None:
    folder = tmp_path / "llm"
    shutil.copytree(tiny_llm, folder, ignore=shutil.ignore_patterns(*removed))
    found = check(resolved(small_csv, folder), "LLM")
    assert not found.ok
    assert found.detail == f"{folder} {lacking}"


def test_a_broken_tokenizer_is_named_with_its_file(small_csv: Path, tiny_llm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "llm"
    shutil.copytree(tiny_llm, folder)
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    found = check(resolved(small_csv, folder), "prompt")
    assert not found.ok
    assert "tokenizer.json' is no tokenizer" in found.detail


def test_a_missing_shard_counts_as_missing_weights(small_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **TINY["llama"]}), encoding="utf-8")
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert check(resolved(small_csv, tmp_path), "LLM").detail.endswith(
        "has no weights; of model.safetensors.index.json it lacks model-00002-of-00002.safetensors"
    )


def test_a_misspelt_llm_is_answered_with_the_nearest(small_csv: Path) -> None:
    found = check(resolved(small_csv, "Qwen/Qwen2.5-3b"), "LLM")
    assert "did you mean 'Qwen/Qwen2.5-3B'?" in found.detail


def test_a_short_name_is_answered_with_the_hub_id_to_use(small_csv: Path) -> None:
    remedy = check(resolved(small_csv, "gpt2"), "LLM").remedy
    assert remedy == "timellm fetch openai-community/gpt2, then --llm openai-community/gpt2"
    assert check(resolved(small_csv, "smollm2-135m"), "LLM").remedy == "timellm fetch smollm2-135m"


def test_no_llm_needs_none(small_csv: Path) -> None:
    config = resolved(small_csv, "none", llm={"quantization": "nf4"})
    assert check(config, "LLM").ok
    assert all(found.name != "bitsandbytes" for found in check_readiness(config, CPU_ONLY))


def test_a_gpu_is_missing_only_where_it_is_asked_for(small_csv: Path, tiny_llm: Path) -> None:
    assert check(resolved(small_csv, tiny_llm), "GPU").ok
    missing = check(resolved(small_csv, tiny_llm, hardware={"device": "cuda"}), "GPU")
    assert not missing.ok
    assert missing.remedy.startswith("use --device cpu")


def test_a_card_that_torch_cannot_use_comes_with_advice(small_csv: Path, tiny_llm: Path) -> None:
    machine = Machine(gpu=CARD, ram_free=GIB, torch_has_cuda=False)
    advice = check(resolved(small_csv, tiny_llm), "GPU", machine)
    assert advice.ok
    assert "torch is installed without CUDA" in advice.detail
    assert "CUDA build of torch" in advice.remedy


def test_a_usable_card_is_shown_with_its_free_memory(small_csv: Path, tiny_llm: Path) -> None:
    machine = Machine(gpu=CARD, ram_free=GIB, torch_has_cuda=True)
    found = check(resolved(small_csv, tiny_llm, hardware={"device": "cuda"}), "GPU", machine)
    assert found == Check("GPU", True, "NVIDIA GeForce RTX 3060, 11.00 GiB of 12.00 GiB free")


def test_a_plan_for_a_gpu_that_is_not_here_comes_with_advice(small_csv: Path, tiny_llm: Path) -> None:
    found = check(resolved(small_csv, tiny_llm, hardware={"vram": "6GiB"}), "GPU")
    assert found.ok
    assert found.remedy == "the settings plan for a GPU of 6GiB; on this CPU the run would be slow"


@pytest.mark.parametrize(
    ("sections", "name", "detail", "remedy"),
    [
        ({"train": {"optimizer": "adamw8bit"}}, "optimizer", "adamw8bit needs a GPU", "--optimizer adam"),
        ({"model": {"d_ff": 33}}, "d_ff", "model.d_ff 33 is more than the hidden size 32", "--d-ff 32"),
        ({"llm": {"layers": 3}}, "layers", "llm.layers is 3, but", "--layers 2"),
        ({"run": {"name": "{seqlen}"}}, "run name", "unknown key {seqlen}; did you mean 'seq_len'?", "keys are"),
        ({"prompt": {"description": "many words " * 400}}, "prompt", "has 2,048 positions", "prompt.description"),
    ],
)
def test_what_a_run_cannot_ask_for_is_found(
    small_csv: Path, tiny_llm: Path, sections: dict[str, Any], name: str, detail: str, remedy: str
) -> None:
    (found,) = [found for found in check_readiness(resolved(small_csv, tiny_llm, **sections), CPU_ONLY) if not found.ok]
    assert found.name == name
    assert detail in found.detail
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("llm", "sections", "name", "reason"),
    [
        ("tiny", {"hardware": {"capture": "on"}}, "capture", "a CPU has no CUDA graphs"),
        ("none", {"hardware": {"capture": "on"}}, "capture", "capture is on, but there is no LLM"),
        (
            "tiny",
            {"hardware": {"recompute": "on"}, "llm": {"implementation": "transformers"}},
            "recompute",
            "does not run the LLM: llm.implementation says so",
        ),
    ],
)
def test_what_only_our_own_decoder_does_is_refused_elsewhere(
    small_csv: Path, tiny_llm: Path, llm: str, sections: dict[str, Any], name: str, reason: str
) -> None:
    config = resolved(small_csv, tiny_llm if llm == "tiny" else llm, **sections)
    checks = check_readiness(config, CPU_ONLY)
    (found,) = [found for found in checks if not found.ok]
    assert (found.name, found.remedy) == (name, f"use --{name} auto")
    assert reason in found.detail
    with pytest.raises(ConfigError, match=f"hardware.{name} is on"):
        require_ready(checks)


def test_recompute_is_fine_with_our_own_decoder(small_csv: Path, tiny_llm: Path) -> None:
    assert all(
        found.ok for found in check_readiness(resolved(small_csv, tiny_llm, hardware={"recompute": "on"}), CPU_ONLY)
    )


def test_an_impossible_run_name_alone_is_a_config_error(small_csv: Path) -> None:
    with pytest.raises(ConfigError, match="run name: "):
        require_ready(check_readiness(resolved(small_csv, "none", run={"name": "{seqlen}"}), CPU_ONLY))


def test_a_card_that_is_too_small_is_refused_and_too_little_ram_is_not(small_csv: Path, tiny_llm: Path) -> None:
    small = Gpu("Small", GIB, GIB // 16, (8, 6))
    machine = Machine(gpu=small, ram_free=GIB // 16, torch_has_cuda=True)
    on_card = check(resolved(small_csv, tiny_llm, hardware={"device": "cuda"}), "memory", machine)
    assert not on_card.ok
    assert "more than the 64 MiB free (Small)" in on_card.detail
    planned = {"device": "cuda", "vram": "64MiB"}
    assert "64 MiB of hardware.vram" in check(resolved(small_csv, tiny_llm, hardware=planned), "memory").detail
    on_cpu = check(resolved(small_csv, tiny_llm), "memory", machine)
    assert on_cpu.ok and "free (RAM)" in on_cpu.detail and on_cpu.remedy
    without = check(resolved(small_csv, "none"), "memory", machine)
    assert "--layers" not in without.remedy and "--quantization" not in without.remedy


def test_an_encoder_decoder_is_refused(small_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "t5", "is_encoder_decoder": true}', encoding="utf-8")
    found = check(resolved(small_csv, tmp_path), "LLM")
    assert (found.ok, found.remedy) == (False, "choose an encoder-only or decoder-only --llm")


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"llm": {"quantization": "nf4"}}, "llm.quantization nf4"),
        ({"train": {"optimizer": "adamw8bit"}}, "train.optimizer adamw8bit"),
    ],
)
def test_bitsandbytes_is_looked_for_only_where_something_needs_it(
    small_csv: Path, tiny_llm: Path, monkeypatch: pytest.MonkeyPatch, sections: dict[str, Any], reason: str
) -> None:
    found = check(resolved(small_csv, tiny_llm, **sections), "bitsandbytes")
    assert (found.ok, found.detail) == (True, f"installed ({reason})")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    missing = check(resolved(small_csv, tiny_llm, **sections), "bitsandbytes")
    assert (missing.ok, missing.remedy) == (False, "pip install bitsandbytes")
    assert reason in missing.detail


def test_a_full_disk_is_told_with_both_numbers(
    small_csv: Path, monkeypatch: pytest.MonkeyPatch, private_cache: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=GIB))
    found = check(resolved(small_csv, "Qwen/Qwen2.5-3B"), "disk")
    # 3,085,938,688 parameters of 2 bytes, and 200 MB for the run.
    assert found.detail.startswith("5.93 GiB needed, 1.00 GiB free")
    assert not found.ok
    assert "TIMELLM_CACHE" in found.remedy


def test_a_full_disk_of_the_run_is_answered_with_its_flag(
    small_csv: Path, tiny_llm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=GIB // 16))
    remedy = check(resolved(small_csv, tiny_llm), "disk").remedy
    assert remedy == "free some space, or put the run on another disk with --checkpoints"


def test_what_is_here_needs_no_disk(small_csv: Path, tiny_llm: Path) -> None:
    assert check(resolved(small_csv, tiny_llm), "disk").detail.startswith("191 MiB needed")


def test_a_drive_that_is_not_there_is_named_and_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows a drive's root is its own parent."""
    monkeypatch.setattr(Path, "exists", lambda self: False)
    config = Config.model_validate({"llm": {"name": "none"}, "run": {"directory": "/gone/runs"}})
    check = _check_disk(config)
    assert not check.ok and check.detail == "no drive '/' for '/gone/runs'"
    assert "--checkpoints" in check.remedy


@pytest.mark.parametrize(
    ("kernels", "expected"),
    [
        ("auto", Check("kernels", True, f"{TOO_OLD}: NVRTC, which comes with PyTorch, compiles them")),
        ("triton", Check("kernels", False, f"hardware.kernels is triton, but {TOO_OLD}", "use --kernels auto")),
        ("torch", None),
    ],
)  # fmt: skip
def test_a_card_that_triton_does_not_compile_for_is_told_before_the_run(
    small_csv: Path, tiny_llm: Path, monkeypatch: pytest.MonkeyPatch, kernels: str, expected: Check | None
) -> None:
    monkeypatch.setattr("timellm_cli.model.llm.triton_check.find_spec", lambda name: object())
    config = resolved(small_csv, tiny_llm, hardware={"device": "cuda", "kernels": kernels})
    t4 = Machine(Gpu("Tesla T4", 15 * GIB, 14 * GIB, (7, 5)), ram_free=12 * GIB, torch_has_cuda=True)
    found = [check for check in check_readiness(config, t4) if check.name == "kernels"]
    assert found == ([expected] if expected else [])


def test_a_missing_compiler_is_told_with_its_remedy_and_a_card_that_works_with_nothing(
    small_csv: Path, tiny_llm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timellm_cli.model.llm.triton_check.find_spec", lambda name: object())
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("CC", raising=False)
    config = resolved(small_csv, tiny_llm, hardware={"device": "cuda"})
    machine = Machine(CARD, ram_free=12 * GIB, torch_has_cuda=True)
    monkeypatch.setattr("shutil.which", lambda name: None)
    found = check(config, "kernels", machine)
    assert found.ok and found.detail.startswith("Triton finds no C compiler (gcc or clang): NVRTC, which")
    assert found.remedy == "install gcc, or name a compiler in the environment variable CC"
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert "kernels" not in [found.name for found in check_readiness(config, machine)]
