"""`timellm eval` shared out to processes: the figures of one, said and written once."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import Arguments
from tests.conftest import Cli, last_json
from tests.processes.together import together
from tests.untrained import make_config, save_untrained
from timellm_cli.commands.eval import score_all
from timellm_cli.evaluation.leaderboard import to_json
from timellm_cli.evaluation.task import Task
from timellm_cli.processes.group import Group


def numbers_of(value: Any, path: str = "") -> dict[str, float]:
    """All numbers of a JSON object by their path."""
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    else:
        return {path: float(value)} if isinstance(value, int | float) else {}
    return {name: number for key, one in pairs for name, number in numbers_of(one, f"{path}/{key}").items()}


def evaluate(group: Group | None, paths: list[Path], **task: Any) -> dict[str, Any]:
    """The leaderboard, with all metrics, as one process of a group sees it."""
    leaderboard, models = score_all(
        paths, Task(**task), batch_size=7, device="cpu", llm=None, offline=True, metrics=True, changes={}, group=group
    )
    assert all(len(model.scores.window_mse_W) == model.scores.samples for model in models)
    return json.loads(json.dumps(to_json(leaderboard), default=str))


def test_two_and_three_processes_count_every_window_once(
    cli: Cli, arguments: Arguments, small_csv: Path, tmp_path: Path
) -> None:
    assert cli(*arguments("--max-steps=3", "--llm=none", "--layers=all")).returncode == 0
    trained = tmp_path / "checkpoints" / "run" / "best.pt"
    other = save_untrained(tmp_path / "other.pt", make_config(small_csv))
    for size, path, task in ((3, trained, {}), (2, other, {"limit": 5}), (2, other, {"zero_shot": str(small_csv)})):
        one = evaluate(None, [path], **task)
        assert bool(one["entries"][0]["coverage"]) == (path == trained)  # bands, which are counted apart
        for several in together(size, evaluate, [path], **task):
            assert numbers_of(several) == pytest.approx(numbers_of(one), rel=1e-6)
            assert several["notes"] == one["notes"]


def test_the_command_shares_windows_out_and_prints_once(
    cli: Cli, cli_process: Cli, small_csv: Path, tmp_path: Path
) -> None:
    run = save_untrained(tmp_path / "checkpoints" / "run-a" / "best.pt", make_config(small_csv))
    one = last_json(cli("eval", run, "--json"))
    shared = cli_process("eval", run, "--json", "--processes", "2", "--report", "page.html")
    assert shared.returncode == 0, shared.stderr
    assert numbers_of(json.loads(shared.stdout)) == pytest.approx(numbers_of(one), rel=1e-6)
    assert shared.stderr.count("Report: page.html") == 1
    assert "run-a" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--processes", "2", "--device", "cuda"), "--processes 2, but there are 0 cards here"),
        (("--processes", "2", "--against", "actual.csv"), "--against scores a file"),
    ],
)
def test_what_cannot_be_shared_out_is_refused_in_one_sentence(
    cli: Cli, small_csv: Path, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    run = save_untrained(tmp_path / "run-a" / "best.pt", make_config(small_csv))
    (tmp_path / "actual.csv").write_bytes(small_csv.read_bytes())
    scored = tmp_path / "actual.csv" if "--against" in flags else run
    finished = cli("eval", scored, *flags, CUDA_VISIBLE_DEVICES="")
    assert finished.returncode == 2
    assert message in " ".join(finished.stderr.split())
    assert "Traceback" not in finished.stderr
