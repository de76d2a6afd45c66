"""Dictionaries and step folders of forks become our checkpoints, and a training continues from them."""

import argparse
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.commands.test_import import write_hourly_csv
from tests.conftest import Cli
from timellm_cli.model.original import _TRAINED, moments_of
from timellm_cli.model.original_file import open_original
from timellm_cli.training.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def state(golden_llama: Path) -> dict[str, torch.Tensor]:
    return torch.load(golden_llama / "checkpoint", weights_only=True)


def fork(state: dict[str, torch.Tensor], **more: object) -> dict[str, object]:
    """What a fork saves after 30 steps: prefixes, Adam's moments, random states and counters."""
    moments = {
        place: {
            "step": torch.tensor(30.0),
            "exp_avg": torch.full_like(state[name], 0.01 * place),
            "exp_avg_sq": torch.ones_like(state[name]),
        }
        for place, name in enumerate(_TRAINED)
    }
    return {
        "model": {f"module.{name}": tensor for name, tensor in state.items()},
        "optimizer": {"state": moments, "param_groups": [{"lr": 1e-3, "params": list(moments)}]},
        "rng_state": {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()},
        "counters": {"global_step": 30, "epoch": 0},
        **more,
    }


def flags(csv: Path, llm: Path) -> list[object]:
    return ["--dataset", "custom", "--data-path", csv, "--llm", llm, "--device", "cpu", "--batch-size", 8]


def test_sizes_layers_and_heads_are_read_off_a_forks_file(cli: Cli, golden_llama: Path, state, tmp_path: Path) -> None:
    csv = tmp_path / "hourly.csv"
    write_hourly_csv(csv)
    torch.save(fork(state), tmp_path / "step-30.pt")
    wanted = ("--n-heads", 4, "--epochs", 2, "--run-name", "r", "--max-steps", 33, "--save-steps", 0, "--top-lags", 3)
    finished = cli("import", "step-30.pt", *flags(csv, golden_llama / "llm"), *wanted)
    assert finished.returncode == 0, finished.stderr
    assert "--pred-len 24" in finished.stdout and "--layers 2" in finished.stdout
    saved = load_checkpoint(tmp_path / "checkpoints" / "r" / "last.pt")
    model, window = saved.config.model, saved.config.window
    assert (window.seq_len, window.pred_len, model.d_model, model.d_ff, model.n_heads) == (96, 24, 16, 32, 4)
    assert saved.config.llm.layers == 2 and saved.config.llm.quantization == "none"
    assert saved.training is not None and saved.training.run.step == 30
    resumed = cli("train", "--resume", "checkpoints/r/last.pt")
    assert resumed.returncode == 0, resumed.stderr
    after = load_checkpoint(tmp_path / "checkpoints" / "r" / "last.pt")
    assert after.training is not None and after.training.run.step == 33


def test_moments_go_to_the_tensors_they_belong_to(state, tmp_path: Path) -> None:
    torch.save(fork(state), tmp_path / "step-30.pt")
    found = open_original(tmp_path / "step-30.pt")
    moments = moments_of(found)
    assert len(moments) == len(_TRAINED) - 1, "that of the mapping is left out"
    place = _TRAINED.index("output_projection.linear.bias")
    assert float(moments["head.projection.bias"]["exp_avg"][0]) == pytest.approx(0.01 * place)
    assert found.step == 30
    torch.save({**fork(state), "optimizer": {"state": {0: {}}, "param_groups": []}}, tmp_path / "odd.pt")
    assert moments_of(open_original(tmp_path / "odd.pt")) == {}


def test_the_newest_step_of_a_folder_is_read_with_the_arguments_beside_it(
    cli: Cli, golden_llama: Path, state, tmp_path: Path
) -> None:
    csv = tmp_path / "hourly.csv"
    write_hourly_csv(csv)
    for step in (9, 20):
        folder = tmp_path / "run" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        torch.save(state, folder / "pytorch_model.bin")
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}), encoding="utf-8")
        shutil.copy(golden_llama / "args.json", folder / "args.json")
    found = open_original(tmp_path / "run")
    assert (found.step, found.path.parent.name) == (20, "checkpoint-20")
    assert found.arguments["n_heads"] == 4
    finished = cli("import", "run", "-o", "ours.pt", *flags(csv, golden_llama / "llm"))
    assert finished.returncode == 0, finished.stderr
    assert load_checkpoint(tmp_path / "ours.pt").config.model.n_heads == 4, "as args.json says"


def test_arguments_in_a_namespace_and_deepspeeds_wrapping_are_read(state, tmp_path: Path) -> None:
    content = {
        "module": {f"module.{name}": tensor for name, tensor in state.items()},
        "args": argparse.Namespace(seq_len=96),
    }
    folder = tmp_path / "global_step7"
    folder.mkdir()
    torch.save(content, folder / "mp_rank_00_model_states.pt")
    (tmp_path / "latest").write_text("global_step7", encoding="utf-8")
    found = open_original(tmp_path)
    assert found.arguments == {"seq_len": 96}
    assert found.step == 7
    assert set(found.state) == set(state)


class Harmful:
    """A pickle that would run a command."""

    def __reduce__(self):
        return (Path.touch, (Path("harmed"),))


def test_code_in_a_forks_dictionary_never_runs(cli: Cli, state, tmp_path: Path) -> None:
    torch.save({"model": state, "config": Harmful()}, tmp_path / "bad.pt")
    finished = cli("import", "bad.pt", "--dataset", "ETTm1")
    assert finished.returncode == 4 and "refused" in finished.stderr
    assert not (tmp_path / "harmed").exists()


def test_a_folder_without_weights_says_what_it_holds(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x", encoding="utf-8")
    finished = cli("import", "empty")
    assert finished.returncode == 4 and "it holds notes.txt" in finished.stderr
