"""`timellm train` as people call it; where signals come, in a process of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.command_line import run_process
from tests.commands.conftest import Arguments
from tests.conftest import Cli, write_tiny_llm
from tests.training.conftest import assert_same_weights
from timellm_cli.report.train_summary import quote
from timellm_cli.report.training_log import read_metrics
from timellm_cli.training.checkpoint import load_checkpoint, save_checkpoint


def logged_steps(folder: Path) -> list[int]:
    """The steps of metrics.jsonl, in its order."""
    return [line["step"] for line in read_metrics(folder / "metrics.jsonl") if line["event"] == "step"]


def test_a_run_leaves_its_files_tells_its_story_and_is_never_overwritten(
    cli: Cli, arguments: Arguments, tmp_path: Path
) -> None:
    finished = cli(*arguments("--save-steps=10", "--run-name=my run {seq_len}"))
    assert finished.returncode == 0, finished.stderr
    folder = tmp_path / "checkpoints" / "my run 48"
    assert {path.name for path in folder.iterdir()} == {
        ".lock", "best.pt", "last.pt", "step-10.pt", "step-20.pt", "config.toml", "metrics.jsonl", "curves.png",
    }  # fmt: skip
    assert logged_steps(folder) == list(range(1, 27))
    assert tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))["train"]["precision"] == "fp32"

    assert "46 windows x 2 channels = 92 training samples" in finished.stderr
    assert "13 an epoch, 26 in all" in finished.stderr
    assert re.search(r"^iters: 13, epoch: 1 \| loss: \d\.\d{4} \| lr .* samples/s \| left 0:00:", finished.stderr, re.M)
    assert "Validation loss decreased (inf --> " in finished.stderr
    best = load_checkpoint(folder / "best.pt").metrics
    assert f"{best['test_mse']:.4f}" in finished.stdout
    assert f"timellm eval {quote(Path('checkpoints') / 'my run 48' / 'best.pt')}" in finished.stdout

    again = cli(*arguments("--run-name=my run {seq_len}"))
    assert again.returncode == 2
    assert "already holds a run" in again.stderr
    assert "--resume auto" in again.stderr


def test_what_is_loaded_is_said_before_pytorch_is_imported(
    arguments: Arguments, tmp_path: Path, tiny_llm: Path
) -> None:
    """By the order of what a process prints, with each import."""
    words = arguments("--max-steps=1", f"--llm={tiny_llm}", "--layers=1")
    lines = run_process(words, tmp_path, PYTHONPROFILEIMPORTTIME="1").stderr.splitlines()
    first = next(index for index, line in enumerate(lines) if re.search(r"\|\s+torch(\.|$)", line))
    (said,) = [index for index, line in enumerate(lines) if "Loading PyTorch, then the LLM" in line]
    assert said < first
    assert re.search(r": 1 layer, \d+ KiB$", lines[said])


def test_resuming_an_older_checkpoint_writes_the_rest_again_and_notes_a_later_best(
    cli: Cli, arguments: Arguments, tmp_path: Path
) -> None:
    assert cli(*arguments("--save-steps=10")).returncode == 0
    folder = tmp_path / "checkpoints" / "run"
    weights = load_checkpoint(folder / "last.pt").weights
    again = cli("train", "--resume", folder / "step-10.pt")
    assert again.returncode == 0, again.stderr
    assert "Removed step-20.pt" in again.stderr
    assert re.search(r"best\.pt is of epoch [12], after the checkpoint; it stays until", again.stderr)
    assert logged_steps(folder) == list(range(1, 27))
    assert_same_weights(load_checkpoint(folder / "last.pt").weights, weights)


def test_resuming_a_run_that_max_steps_ended_amid_an_epoch_changes_nothing(
    cli: Cli, arguments: Arguments, tmp_path: Path
) -> None:
    assert cli(*arguments("--max-steps=5")).returncode == 0
    folder = tmp_path / "checkpoints" / "run"
    before = (folder / "metrics.jsonl").read_bytes()
    curves = (folder / "curves.png").read_bytes()
    assert [line["step"] for line in read_metrics(folder / "metrics.jsonl") if line["event"] == "epoch"] == [5]
    again = cli("train", "--resume", folder / "last.pt")
    assert again.returncode == 0, again.stderr
    assert (folder / "metrics.jsonl").read_bytes() == before
    assert (folder / "curves.png").read_bytes() == curves


def test_an_automatic_batch_is_a_number_in_all_files_and_its_run_is_found_again(
    cli: Cli, arguments: Arguments, tmp_path: Path
) -> None:
    chosen = arguments("--batch-size=auto", "--accumulate=1", "--run-name=by {batch_size}")
    first = cli(*chosen, "--max-steps=3")
    assert first.returncode == 0, first.stderr
    folder = tmp_path / "checkpoints" / "by auto"
    train = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))["train"]
    assert (train["batch_size"], train["accumulate"]) == (32, 1)
    assert "of 32 samples each" in first.stderr
    again = cli(*chosen, "--max-steps=3", "--resume=auto")
    assert again.returncode == 0, again.stderr
    assert load_checkpoint(folder / "last.pt").config.train.batch == 32
    assert logged_steps(folder) == [1, 2, 3]


def test_a_run_of_another_machine_continues_here(
    cli: Cli, cli_process: Cli, arguments: Arguments, tmp_path: Path
) -> None:
    """Captured steps and recomputed layers are of the machine, so a CPU continues what a GPU began."""
    assert cli(*arguments("--max-steps=5", "--schedule=constant")).returncode == 0
    last = tmp_path / "checkpoints" / "run" / "last.pt"
    begun = load_checkpoint(last)
    on_gpu = {"hardware.device": "cuda", "hardware.capture": "on", "hardware.recompute": "on"}
    save_checkpoint(last, replace(begun, config=begun.config.with_values(on_gpu)))

    elsewhere = cli_process("train", "--resume", last, CUDA_VISIBLE_DEVICES="")
    assert elsewhere.returncode == 4
    assert "capture" not in elsewhere.stderr
    assert "--device cpu" in elsewhere.stderr
    assert cli_process("eval", last, "--limit=1", CUDA_VISIBLE_DEVICES="").returncode == 0
    here = cli("train", "--resume", last, "--device=cpu", "--max-steps=9")
    assert here.returncode == 0, here.stderr
    ended = load_checkpoint(last)
    assert ended.training.run.step == 9
    hardware = ended.config.hardware
    assert (hardware.device, hardware.capture, hardware.recompute) == ("cpu", "off", "off")


@pytest.mark.skipif(os.name != "posix", reason="signals are sent in the POSIX way")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_while_the_llm_loads_leaves_no_folder(
    arguments: Arguments, tmp_path: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "timellm_cli", *arguments()],
        stderr=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    folder = tmp_path / "checkpoints" / "run"
    while not (folder / ".lock").exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(number)
    said = process.communicate(timeout=300)[1]
    # CPython ends itself by SIGINT where that came inside an exec() of a string, as dataclasses use; shells show 130.
    assert process.returncode in (130, -signal.SIGINT), said
    assert "stopped before training began" in said
    assert not folder.exists()


def test_everything_missing_is_said_at_once(cli: Cli, arguments: Arguments) -> None:
    failed = cli(*arguments("--data-path=absent.csv", "--llm=owner/absent", "--device=cuda", "--offline"))
    assert failed.returncode == 4
    for word in ("data: no file ", "absent.csv", "owner/absent", "GPU: "):
        assert word in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_fault_inside_the_table_is_said_with_the_rest(cli: Cli, arguments: Arguments, small_csv: Path) -> None:
    lines = small_csv.read_text(encoding="utf-8").splitlines()
    small_csv.write_text("\n".join([*lines[:200], *lines[201:]]) + "\n", encoding="utf-8")
    failed = cli(*arguments("--d-ff=64", "--layers=3", "--optimizer=adam8bit", "--offline"))
    assert failed.returncode == 4
    for word in ("- data: ", "a gap: ", "- d_ff: ", "- layers: ", "- optimizer: ", "--fill linear"):
        assert word in failed.stderr
    assert not (small_csv.parent / "checkpoints").exists()


def test_faults_of_the_data_and_of_a_resumed_run_are_named(
    cli: Cli, arguments: Arguments, small_csv: Path, tmp_path: Path
) -> None:
    assert cli(*arguments("--max-steps=2")).returncode == 0
    last = tmp_path / "checkpoints" / "run" / "last.pt"

    other_window = cli("train", "--resume", last, "--seq-len=96")
    assert other_window.returncode == 2
    assert "window.seq_len: 48 in the checkpoint, 96 now" in other_window.stderr

    text = small_csv.read_text(encoding="utf-8")
    small_csv.write_text(text.replace(",50.", ",51.", 1), encoding="utf-8")
    other_data = cli("train", "--resume", last)
    assert other_data.returncode == 3
    assert "are not those the run was started with" in other_data.stderr


def test_warnings_of_the_data_are_printed(cli: Cli, arguments: Arguments, small_csv: Path) -> None:
    lines = small_csv.read_text(encoding="utf-8").splitlines()
    constant = [f"{line},{'flat' if row == 0 else 7}" for row, line in enumerate(lines)]
    small_csv.write_text("\n".join(constant) + "\n", encoding="utf-8")
    finished = cli(*arguments("--max-steps=1", "--llm=none"))
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"warning: constant.*flat", finished.stderr)
    assert "LLM      none" in finished.stderr
    first = json.loads((small_csv.parent / "checkpoints" / "run" / "metrics.jsonl").read_text("utf-8").splitlines()[0])
    assert first["step"] == 1


@pytest.mark.parametrize(
    ("flags", "variables", "message"),
    [
        ((), {"WORLD_SIZE": "2", "RANK": "0"}, "2 processes were started (WORLD_SIZE), but LOCAL_RANK is '' here"),
        (
            ("--processes", "2"),
            {"WORLD_SIZE": "4", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4"},
            "--processes 2 starts processes, but 4 were started already",
        ),
        (("--processes", "3", "--batch-size", "2"), {}, "a batch of 2 samples cannot be shared by 3 processes"),
        (("--processes", "2", "--device", "cuda"), {}, "--processes 2, but there are 0 cards here"),
    ],
)
def test_processes_that_cannot_be_are_refused_in_one_sentence(
    cli: Cli, tmp_path: Path, flags: tuple[str, ...], variables: dict[str, str], message: str
) -> None:
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    finished = cli("train", "--profile", "quickstart", *flags, **hidden, **variables)
    assert finished.returncode == 2
    assert message in " ".join(finished.stderr.split())
    assert "Traceback" not in finished.stderr and not list(tmp_path.iterdir())


def test_two_processes_leave_the_run_of_one(cli_process: Cli, arguments: Arguments, tmp_path: Path) -> None:
    finished = cli_process(*arguments("--max-steps=3", "--processes=2"))
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count("Finished") == 1
    assert (tmp_path / "checkpoints" / "run" / "best.pt").is_file()


def test_a_run_continues_where_its_llm_has_moved_and_refuses_another_one(
    cli: Cli, arguments: Arguments, tiny_llm: Path, tmp_path: Path
) -> None:
    moved, other = tmp_path / "moved", tmp_path / "other"
    assert cli(*arguments("--schedule=constant", "--max-steps", 12)).returncode == 0
    shutil.copytree(tiny_llm, moved)
    finished = cli(*arguments("--schedule=constant", "--max-steps", 14, "--resume", "auto", "--llm", moved))
    assert finished.returncode == 0, finished.stderr
    write_tiny_llm(other)
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    (other / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-2}), encoding="utf-8")
    refused = cli(*arguments("--schedule=constant", "--max-steps", 16, "--resume", "auto", "--llm", other))
    assert refused.returncode == 4
    assert "is not the one of the checkpoint: fingerprint" in " ".join(refused.stderr.split())


def test_a_run_is_not_resumed_on_other_rows(cli: Cli, arguments: Arguments, small_csv: Path) -> None:
    assert cli(*arguments("--schedule=constant", "--max-steps", 12)).returncode == 0
    lines = small_csv.read_text(encoding="utf-8").splitlines()
    lines[-1] = lines[-1] + "1"  # one digit more in the last test row
    small_csv.write_text("\n".join(lines) + "\n", encoding="utf-8")
    refused = cli(*arguments("--schedule=constant", "--max-steps", 14, "--resume", "auto"))
    assert refused.returncode == 3
    assert "test: the same 80 rows, but with other values" in " ".join(refused.stderr.split())
