"""`timellm train --seeds`: several runs of one command, and what they came to together."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.commands.conftest import Arguments
from tests.conftest import Cli, last_json
from timellm_cli.commands import train, train_many
from timellm_cli.planning.hardware import Machine
from timellm_cli.settings import Settings, resolve
from timellm_cli.training.checkpoint import load_checkpoint
from timellm_cli.training.records import RunFinished

KEYS = ("val_mse", "val_mae", "test_mse", "test_mae")


def best_of(folder: Path) -> dict[str, float]:
    return load_checkpoint(folder / "best.pt").metrics


def test_every_seed_has_a_run_of_its_own_and_all_have_a_mean_and_a_spread(
    cli: Cli,
    arguments: Arguments,
    tmp_path: Path,
) -> None:
    finished = cli(*arguments("--seeds=2", "--seed=7", "--epochs=1"))
    assert finished.returncode == 0, finished.stderr
    checkpoints = tmp_path / "checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"run-seed7", "run-seed8", "run-seeds7-8.json"}
    best = [best_of(checkpoints / f"run-seed{seed}") for seed in (7, 8)]
    assert best[0]["test_mse"] != best[1]["test_mse"]
    assert load_checkpoint(checkpoints / "run-seed8" / "last.pt").config.train.seed == 8

    summary = json.loads((checkpoints / "run-seeds7-8.json").read_text(encoding="utf-8"))
    assert summary["runs"] == [
        {"seed": seed, "epoch": 1, **{key: figures[key] for key in KEYS}}
        for seed, figures in zip((7, 8), best, strict=True)
    ]
    for key in KEYS:
        values = [figures[key] for figures in best]
        assert summary["mean"][key] == statistics.mean(values)
        assert summary["std"][key] == statistics.stdev(values)
    assert f"{summary['std']['test_mae']:.4f}" in finished.stdout
    assert "run-seed7/best.pt checkpoints/run-seed8/best.pt" in finished.stdout.replace("\\", "/")

    again = cli(*arguments("--seeds=3", "--seed=6", "--epochs=1"))
    assert again.returncode == 2
    assert "run-seed7' already holds a run" in again.stderr
    assert not (checkpoints / "run-seed6").exists(), "nothing is trained before the refusal"


def test_resuming_goes_on_with_a_begun_seed_leaves_finished_ones_alone_and_makes_the_rest(
    cli: Cli,
    arguments: Arguments,
    tmp_path: Path,
) -> None:
    checkpoints = tmp_path / "checkpoints"
    assert cli(*arguments("--seeds=1", "--run-name=run-{seed}")).returncode == 0
    before = (checkpoints / "run-2021" / "last.pt").stat().st_mtime_ns

    endless = arguments("--seeds=3", "--run-name=run-{seed}", "--resume=auto", "--window-stride=1")
    refused = cli(*endless)
    assert refused.returncode == 2 and "data.window_stride" in refused.stderr

    command = [sys.executable, "-m", "timellm_cli", *arguments("--seeds=3", "--run-name=run-{seed}", "--resume=auto")]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    metrics = checkpoints / "run-2022" / "metrics.jsonl"
    while not (metrics.is_file() and metrics.read_text(encoding="utf-8").count("\n") >= 3):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130, said
    assert "the same command and --resume auto" in said
    stopped = load_checkpoint(checkpoints / "run-2022" / "last.pt").training
    assert stopped is not None and 0 < stopped.run.step < 26 and not stopped.run.finished
    assert not (checkpoints / "run-2023").exists()

    finished = cli(*arguments("--seeds=3", "--run-name=run-{seed}", "--resume=auto"))
    assert finished.returncode == 0, finished.stderr
    assert "run-2021' is finished: all 2 epochs are done" in finished.stderr
    assert (checkpoints / "run-2021" / "last.pt").stat().st_mtime_ns == before
    for seed in (2022, 2023):
        ended = load_checkpoint(checkpoints / f"run-{seed}" / "last.pt").training
        assert ended is not None and ended.run.step == 26 and ended.run.finished
    summary = json.loads((checkpoints / "run-seeds2021-2023.json").read_text(encoding="utf-8"))
    assert [run["seed"] for run in summary["runs"]] == [2021, 2022, 2023]


def test_seeds_go_on_together_or_not_at_all(cli: Cli, arguments: Arguments) -> None:
    refused = cli(*arguments("--seeds=2", "--resume=checkpoints/run-seed2021/last.pt"))
    assert refused.returncode == 2
    assert "--resume auto with --seeds" in refused.stderr


def test_all_seeds_are_planned_for_the_machine_as_it_was_before_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else what the first one leaves on a card, its CUDA context at least, is missing in the plan of the second."""
    planned: dict[int, Machine] = {}

    def run(settings: Settings, *, machine: Machine, **_: object) -> RunFinished:
        planned[settings.config.train.seed] = machine
        return RunFinished("done", 1, 1, {"epoch": 1.0, **dict.fromkeys(KEYS, 0.5)}, 1.0, None)

    monkeypatch.setattr(train, "run", run)
    settings = resolve(flags={"run.directory": str(tmp_path), "run.name": "run", "train.seed": "4"})
    train_many.run(settings, 3, resume=None, offline=True)
    assert list(planned) == [4, 5, 6]
    assert planned[4] is planned[5] is planned[6]


def test_folds_are_trained_one_after_another_and_eval_joins_them(
    cli: Cli, arguments: Arguments, small_csv: Path, tmp_path: Path
) -> None:
    command = arguments("--folds=2", "--seeds=2", "--epochs=1", "--seq-len=24", "--llm=none", "--max-steps=3")
    finished = cli(*command)
    assert finished.returncode == 0, finished.stderr
    assert "Seed 2021, fold 1, run 1 of 4" in finished.stderr
    checkpoints = tmp_path / "checkpoints"
    summary = json.loads((checkpoints / "run-seeds2021-2022-folds1-2.json").read_text(encoding="utf-8"))
    assert [(run["seed"], run["fold"]) for run in summary["runs"]] == [(2021, 1), (2021, 2), (2022, 1), (2022, 2)]
    of_folds = [statistics.mean(run["test_mse"] for run in summary["runs"] if run["fold"] == fold) for fold in (1, 2)]
    assert summary["std"]["test_mse"] == pytest.approx(statistics.stdev(of_folds))
    before = (checkpoints / "run-seed2022-fold2" / "last.pt").stat().st_mtime_ns
    assert cli(*command, "--resume=auto").returncode == 0
    assert (checkpoints / "run-seed2022-fold2" / "last.pt").stat().st_mtime_ns == before

    paths = sorted(checkpoints.glob("*/best.pt"))
    joined = last_json(cli("eval", *paths, "--json"))
    ours = joined["entries"][0]
    assert (ours["name"], len(ours["runs"]), len(ours["folds"])) == ("run", 2, 2)
    assert [fold["fold"] for fold in joined["folds"]] == [1, 2] and joined["folds"][1]["last"] == "2024-01-17 15:00:00"
    assert joined["windows"] == 2 * (40 - 12 + 1)
    assert ours["mse"] == pytest.approx(statistics.mean(fold["mse"] for fold in ours["folds"]))
    assert joined["verdicts"][0]["difference"]["folds"] == 2
    shown = cli("eval", *paths, "--report", "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h2>Folds</h2>" in page and f"<td>{ours['folds'][1]['mse']:.4f}</td>" in page
    assert f"<td>{ours['metrics']['mase']:.4f}</td>" in page
    assert "MSE by fold" in shown.stdout and "2 folds joined" in shown.stdout
    assert "in the standardised units of fold 1" in " ".join(shown.stdout.split())

    alone = cli("eval", paths[0])
    assert "this is fold 1 of 2 alone" in " ".join(alone.stdout.split())
    torn = cli("eval", *paths[:-1])
    assert torn.returncode == 2 and "fold 2 is missing beside run-seed2022-fold1" in torn.stderr
    single = cli(*arguments("--folds=2", "--fold=1", "--run-name=one", "--epochs=1", "--seq-len=24", "--max-steps=1"))
    assert single.returncode == 0 and load_checkpoint(checkpoints / "one" / "best.pt").config.data.fold == 1
