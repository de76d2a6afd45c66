"""The verbs from Python: they return what the commands print, print nothing, and importing them is light."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

import timellm_cli
from tests.conftest import Cli, last_json
from tests.test_light_imports import HEAVY
from timellm_cli import ConfigError, DataError, Trained, evaluate, inspect, train

VALUES = {
    "llm.name": "none", "window.seq_len": 48, "window.pred_len": 12, "model.d_model": 8, "model.d_ff": 8,
    "model.num_prototypes": 20, "train.max_steps": 8, "train.batch_size": 16, "run.name": "own",
}  # fmt: skip
FLAGS = (
    "--llm", "none", "--seq-len", 48, "--pred-len", 12, "--d-model", 8, "--d-ff", 8, "--num-prototypes", 20,
    "--max-steps", 8, "--batch-size", 16,
)  # fmt: skip


def test_importing_the_package_imports_nothing_heavy_and_names_load_when_they_are_used() -> None:
    program = (
        "import sys, timellm_cli\n"
        f"heavy = {HEAVY}\n"
        "loaded = lambda: [name for name in (*heavy, 'rich', 'pydantic', 'typer') if name in sys.modules]\n"
        "assert loaded() == [], loaded()\n"
        "from timellm_cli import ModelError, inspect\n"
        "assert not set(loaded()) & set(heavy), loaded()\n"
        "inspect('quickstart')\n"
        "assert not set(loaded()) & set(heavy), loaded()\n"
        "from timellm_cli import Forecaster\n"
        "assert 'torch' in loaded()\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_every_public_name_is_there_and_another_is_an_attribute_error() -> None:
    assert all(getattr(timellm_cli, name) for name in timellm_cli.__all__)
    assert dir(timellm_cli) == sorted(timellm_cli.__all__)
    with pytest.raises(AttributeError, match="no attribute 'forecast'"):
        timellm_cli.forecast  # noqa: B018
    assert (Path(timellm_cli.__file__).parent / "py.typed").is_file()


def test_a_model_trained_and_scored_from_python_has_the_figures_of_the_commands(
    cli: Cli, small_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    trained = train(small_csv, VALUES)
    assert isinstance(trained, Trained)
    assert (trained.folder, trained.best) == (Path("checkpoints/own"), Path("checkpoints/own/best.pt"))
    assert trained.finished.step == 8
    board = evaluate(trained.best)
    assert capfd.readouterr() == ("", "")
    assert cli("train", small_csv, *FLAGS, "--run-name", "cli").returncode == 0
    command = last_json(cli("eval", "checkpoints/cli/best.pt", "--json"))
    ours, theirs = (entries["entries"] for entries in (board, command))
    assert [(one["mse"], one["mae"]) for one in ours] == [(one["mse"], one["mae"]) for one in theirs]
    assert train(small_csv, VALUES, resume="auto").finished.step == 8
    with pytest.raises(ConfigError, match="already holds a run"):
        train(small_csv, VALUES)


def test_a_training_may_run_in_a_thread(small_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = []
    thread = threading.Thread(target=lambda: found.append(train(small_csv, VALUES)))
    thread.start()
    thread.join()
    assert found[0].best.is_file()


def test_inspect_returns_what_the_command_prints(cli: Cli, small_csv: Path) -> None:
    record = inspect(
        {
            "data": {"dataset": "custom", "path": small_csv},
            "window": {"seq_len": 48, "pred_len": 12},
            "llm.name": "none",
        }
    )
    printed = last_json(cli("inspect", small_csv, "--seq-len", 48, "--pred-len", 12, "--llm", "none", "--json"))
    same = [key for key in record if key not in ("memory", "cpu_memory", "checks", "ready")]
    assert {key: record[key] for key in same} == {key: printed[key] for key in same}
    assert inspect("etth1-llama3-8b-t4", card="T4")["memory"]["kind"] == "GPU"


def test_a_configuration_may_be_a_file_and_mistakes_raise_the_sentences_of_the_command(
    small_csv: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.toml").write_text(f"[data]\ndataset = 'custom'\npath = '{small_csv.as_posix()}'\n")
    assert inspect(tmp_path / "own.toml", {"window.seq_len": 48, "window.pred_len": 12})["seq_len"] == 48
    with pytest.raises(ConfigError, match=r"did you mean 'window\.seq_len'"):
        inspect("quickstart", {"window.seq_lne": 48})
    with pytest.raises(ConfigError, match=r"window.seq_len = -1 \(flag\)"):
        inspect("quickstart", {"window.seq_len": -1})
    with pytest.raises(ConfigError, match=r"configuration file '.*absent\.toml' not found"):
        inspect(tmp_path / "absent.toml")
    with pytest.raises(DataError, match=r"no file .*samll\.csv"):
        train(small_csv.with_name("samll.csv"), VALUES)
    with pytest.raises(ConfigError, match="split 'tset' is not known"):
        evaluate(tmp_path / "best.pt", split="tset")
    with pytest.raises(ConfigError, match="and got int"):
        inspect(3)  # type: ignore[arg-type]
