"""`timellm init`, `runs` and `doctor`: the way in, what is there, and what to mend."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.commands.conftest import Arguments, arguments  # noqa: F401  a fixture
from tests.conftest import Cli, last_json
from timellm_cli.planning.examination import examine
from timellm_cli.planning.first_profile import windows_for
from timellm_cli.planning.hardware import Gpu, Machine
from timellm_cli.settings import resolve


def test_init_writes_a_profile_that_says_what_was_understood(cli: Cli, small_csv: Path, tmp_path: Path) -> None:
    table = small_csv.rename(tmp_path / "sales.csv")
    finished = cli("init", "sales.csv")
    assert finished.returncode == 0, finished.stderr
    text = (tmp_path / "sales.toml").read_text(encoding="utf-8")
    assert finished.stdout.strip() == text.strip()
    assert "# 400 rows, from 2024-01-01 00:00:00 to 2024-01-17 15:00:00" in text
    assert 'path = "sales.csv"' in text and "the timestamps, every hour" in text
    assert '# columns = ["load", "OT"]' in text and "# description = " in text
    config = resolve(None, tmp_path / "sales.toml").config
    assert (config.window.seq_len, config.window.pred_len, config.model.shortcut_period) == (24, 8, 24)
    assert cli("inspect", "--config", "sales.toml").returncode == 0
    again = cli("init", table)
    assert again.returncode == 2 and "exists already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [(("init",), 2, "timellm init FILE.csv"), (("init", "no.csv"), 3, "no.csv"), (("runs", "nowhere"), 2, "no folder")],
)
def test_a_wrong_path_is_one_clear_message(cli: Cli, arguments: tuple[str, ...], code: int, words: str) -> None:  # noqa: F811
    finished = cli(*arguments)
    assert finished.returncode == code and words in finished.stderr, finished.stderr


def test_init_keeps_what_the_user_says_about_reading(cli: Cli, tmp_path: Path) -> None:
    lines = [
        "a line",
        "Tag;Menge",
        *(f"{day:02d}.{month:02d}.2023;{day},5" for month in (1, 3, 5) for day in range(1, 29)),
    ]
    (tmp_path / "de.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    finished = cli("init", "de.csv", "--skip-rows", 1, "--decimal", ",", "--calendar", "rows", "-o", "mine.toml")
    assert finished.returncode == 0, finished.stderr
    config = resolve(None, tmp_path / "mine.toml").config
    assert (config.data.skip_rows, config.data.decimal, config.data.target) == (1, ",", "Menge")


@pytest.mark.parametrize(
    ("step", "rows", "expected"),
    [
        (timedelta(hours=1), 9000, (168, 24, 24)),
        (timedelta(days=1), 2000, (56, 7, 7)),
        (timedelta(days=7), 2000, (104, 13, 52)),
        (timedelta(hours=1), 800, (72, 24, 24)),
        (timedelta(days=1), 100, (7, 2, 7)),
        (None, 5000, (96, 24, 0)),
    ],
)
def test_windows_follow_the_cadence_and_the_number_of_rows(
    step: timedelta | None, rows: int, expected: tuple[int, int, int]
) -> None:
    assert windows_for(step, rows)[:3] == expected


def test_runs_lists_scores_and_the_newest_first(cli: Cli, arguments: Arguments, tmp_path: Path) -> None:  # noqa: F811
    assert cli(*arguments("--max-steps", 3)).returncode == 0
    assert cli(*arguments("--max-steps", 3, "--run-name", "second")).returncode == 0
    listed = last_json(cli("runs", "--json"))["runs"]
    assert {run["name"] for run in listed} == {"run", "second"}
    (run,) = [run for run in listed if run["name"] == "run"]
    assert run["step"] == 3 and run["epoch"] == 1 and run["val_mse"] > 0
    assert (run["data"], run["window"]) == ("small.csv", "48 -> 12")
    shown = cli("runs", COLUMNS="60").stdout
    assert "second" in shown and f"{run['val_mse']:.4f}" in shown
    (tmp_path / "checkpoints" / "run" / "config.toml").unlink()
    assert cli("runs").returncode == 0, "a run without its configuration is listed all the same"


def test_doctor_prints_versions_and_caches(cli: Cli) -> None:
    found = last_json(cli("doctor", "--json"))
    names = [one["name"] for one in found["findings"]]
    assert names[:2] == ["timellm", "torch"] and {"GPU", "RAM", "cache", "hub cache"} <= set(names)
    assert "Nothing to mend" in cli("doctor").stdout or "to mend:" in cli("doctor").stdout


def test_a_torch_without_cuda_beside_a_card_is_mended_with_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Gpu("NVIDIA GeForce RTX 4060 Laptop GPU", 8 * 2**30, 7 * 2**30, (8, 9))
    (fault,) = [one for one in examine(Machine(card, 16 * 2**30, False)) if one.name == "torch and GPU"]
    assert fault.remedy.startswith(
        "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu"
    )
    monkeypatch.setattr("sys.platform", "win32")
    (fault,) = [one for one in examine(Machine(card, 16 * 2**30, False)) if one.name == "torch and GPU"]
    assert "pip on Windows installs one" in fault.state


def test_an_old_package_and_little_memory_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1.0")
    findings = {one.name: one for one in examine(Machine(None, 2**20, False))}
    assert findings["transformers"].remedy == 'pip install "transformers>=5.0"'
    assert "close other programs" in findings["RAM"].remedy
