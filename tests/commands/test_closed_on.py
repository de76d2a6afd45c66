"""A checkpoint keeps the place whose holidays its forecasts skip; `predict` may name another, or none."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.conftest import Cli

CLOSED = {(12, 25), (12, 26), (1, 1), (1, 2)}


@pytest.fixture
def working_days(tmp_path: Path) -> Path:
    """Weekdays of two years to Christmas Eve of 2026, without Christmas and New Year."""
    every = [date(2025, 1, 3) + timedelta(days=day) for day in range(721)]
    open_days = [day for day in every if day.weekday() < 5 and (day.month, day.day) not in CLOSED]
    assert open_days[-1] == date(2026, 12, 24)
    path = tmp_path / "days.csv"
    path.write_text("date,OT\n" + "".join(f"{day},{day.toordinal() % 5}\n" for day in open_days), encoding="utf-8")
    return path


def test_a_forecast_skips_the_holidays_of_the_place_it_was_trained_for_or_is_told(
    cli: Cli, working_days: Path, tmp_path: Path
) -> None:
    settings = ["--dataset=custom", "--llm=none", "--seq-len=24", "--pred-len=6", "--max-steps=2", "--device=cpu"]
    trained = cli("train", *settings, f"--data-path={working_days}", "--run-name=run", "--closed-on=nz-auk")
    assert trained.returncode == 0, trained.stderr
    checkpoint = tmp_path / "checkpoints" / "run" / "best.pt"

    def dates(*more: str) -> list[str]:
        finished = cli("predict", checkpoint, working_days, "--steps=5", *more)
        assert finished.returncode == 0, finished.stderr
        return [line[:10] for line in finished.stdout.splitlines()[1:]]

    # The 28th is Boxing Day as observed. The column had rows on Waitangi Day, and on the 2nd of January it has none.
    assert dates() == ["2026-12-29", "2026-12-30", "2026-12-31", "2027-01-05", "2027-01-06"]
    assert dates("--closed-on=none") == ["2026-12-25", "2026-12-28", "2026-12-29", "2026-12-30", "2026-12-31"]
    assert dates("--closed-on=DE-BY")[:2] == ["2026-12-28", "2026-12-29"]


def test_an_unknown_place_ends_before_anything_is_read(cli: Cli, tmp_path: Path) -> None:
    finished = cli("train", "--dataset=custom", f"--data-path={tmp_path / 'absent.csv'}", "--closed-on=NZ-AUX")
    assert finished.returncode == 2
    assert "no region of NZ is called 'AUX'; did you mean 'AUK'?" in finished.stderr
