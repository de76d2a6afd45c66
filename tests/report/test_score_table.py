import io
import json
import math
import re
from dataclasses import replace

from rich.console import Console

from timellm_cli.evaluation.evaluated import FoldErrors, LeaderboardEntry, RunErrors
from timellm_cli.evaluation.folds import FoldRows
from timellm_cli.evaluation.leaderboard import Leaderboard, Published, to_json
from timellm_cli.evaluation.metrics import Metrics
from timellm_cli.evaluation.score import ChannelErrors, PartErrors
from timellm_cli.evaluation.verdict import Verdict
from timellm_cli.report.score_table import render


def entry(name: str, mse: float, runs: int = 0, channels: tuple[str, ...] = ("load", "OT")) -> LeaderboardEntry:
    raw = (9.0, 3.0, 2.5) if len(channels) == 1 else (None, None, None)
    parts = tuple(PartErrors(first, first + 2, mse, 0.5) for first in (1, 4, 7, 10))
    return LeaderboardEntry(
        name=name,
        kind="model" if runs else "baseline",
        explanation=f"explains {name}",
        mse=mse,
        mae=0.5,
        mse_std=0.0123 if runs > 1 else None,
        mae_std=0.0045 if runs > 1 else None,
        mse_raw=raw[0],
        rmse_raw=raw[1],
        mae_raw=raw[2],
        channels={channel: ChannelErrors(mse, 0.5, 900.0, 30.0, 20.0) for channel in channels},
        parts=parts,
        steps=parts,
        runs=tuple(RunErrors(f"{name} {seed}", f"run/{seed}/best.pt", seed, mse, 0.5) for seed in range(runs)),
    )


def leaderboard(
    model_mse: float, channels: tuple[str, ...] = ("load", "OT"), notes: tuple[str, ...] = (), runs: int = 1
) -> Leaderboard:
    return Leaderboard(
        data="small.csv",
        csv="folder/small.csv",
        split="test",
        windows=1234,
        samples=1234 * len(channels),
        series=None,
        pred_len=12,
        limit=None,
        channels=channels,
        entries=(entry("run [x]", model_mse, runs, channels), entry("linear", 0.4, 0, channels)),
        published=(),
        verdicts=(Verdict("LLM", "run [x]", None, "unknown", None, "The LLM [x] made no difference."),),
        notes=notes,
    )


def show(shown: Leaderboard, width: int = 100, *, with_metrics: bool = False) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(render(shown, with_metrics))
    return console.file.getvalue()


def line_with(text: str, word: str) -> str:
    return next(line for line in text.splitlines() if word in line)


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def test_it_says_what_was_scored_and_marks_the_best() -> None:
    text = show(leaderboard(0.3))
    assert "1,234 windows x 2 channels = 2,468 samples" in text
    assert "best" in line_with(text, "run [x] ")
    assert "best" not in line_with(text, "linear  ")
    assert "-25.0%" in line_with(text, "run [x] ")
    assert "The LLM [x] made no difference." in text
    assert "±" not in text


def test_a_baseline_that_wins_is_marked_as_plainly() -> None:
    text = show(leaderboard(0.5))
    assert "best" in line_with(text, "linear  ")
    assert "+25.0%" in line_with(text, "run [x] ")


def test_what_looks_equal_is_not_called_better() -> None:
    text = show(leaderboard(0.399999))
    assert "equal" in line_with(text, "run [x] ") and "equal" in line_with(text, "linear  ")
    assert "best " not in line_with(text, "run [x] ") and "0.0%" in line_with(text, "run [x] ")
    assert "-0.0%" not in text and "+0.0%" not in text


def test_several_seeds_are_shown_with_their_deviation() -> None:
    text = show(leaderboard(0.3, runs=3))
    assert {"0.0123", "0.0045"} <= set(line_with(text, "± ").split())


def test_published_figures_stand_below_with_their_source() -> None:
    shown = replace(leaderboard(0.3), published=(Published("Time-LLM, its paper", "Jin et al.", 0.362, 0.392),))
    text = show(shown)
    assert {"0.362", "0.392", "-9.5%", "published"} <= set(line_with(text, "Time-LLM, its paper").split())
    assert "Jin et al." in text


def test_units_of_the_csv_stand_by_channel_and_among_the_further_metrics() -> None:
    several, single = show(leaderboard(0.3)), show(leaderboard(0.3, ("OT",)))
    assert "by channel" in several and "CSV units" in several
    assert "by channel" not in single and "CSV" not in single
    assert {"900", "20"} <= set(line_with(several, "load ").split())
    first = leaderboard(0.3, ("OT",))
    known = Metrics(rmse=0.5, mase=1.25, smape=12.5, wql=None, mse_raw=9.0, mae_raw=2.5, rmse_raw=3.0, wql_raw=0.125)
    counted = replace(first, entries=(replace(first.entries[0], metrics=known), first.entries[1]))
    assert "1.2500" in line_with(show(counted), "run [x] ") and "sMAPE" not in show(counted)
    further = show(counted, with_metrics=True).split("further metrics")[1]
    assert cells(line_with(further, "run [x] "))[1:] == ["0.5000", "-", "12.5", "9", "2.5", "3", "0.1250"]
    assert "linear" not in further.split("The LLM")[0], "what was not counted has no line"


def test_folds_stand_below_each_other_with_mean_and_deviation() -> None:
    first = leaderboard(0.3)
    folds = (FoldErrors(0.2, 0.3), FoldErrors(0.4, 0.5))
    joined = replace(
        first,
        entries=tuple(replace(one, folds=folds) for one in first.entries),
        folds=(FoldRows(1, "2024-01-01 00:00:00", "2024-01-31 23:00:00"), FoldRows(2, "2024-02-01", "2024-02-29")),
    )
    text = show(joined).split("MSE by fold")[1]
    assert "2024-01-01" in text and "2024-02-01" in text
    assert cells(line_with(text, "run [x]")) == ["run [x]", "0.2000", "0.4000", "0.3000", "0.1414"]
    assert cells(line_with(text, "linear")) == ["linear", "0.2000", "0.4000", "0.3000", "0.1414"]


def test_every_part_of_the_horizon_has_a_line_and_every_note_stands_there() -> None:
    text = show(leaderboard(0.3, notes=("this is the val split",)))
    for part in ("1 to 3", "4 to 6", "7 to 9", "10 to 12", "note: this is the val split"):
        assert part in text


def test_it_fits_eighty_columns() -> None:
    for channels in (("load", "OT"), ("OT",)):
        lines = show(leaderboard(0.3, channels), 80, with_metrics=True).splitlines()
        assert max(map(len, lines)) <= 80
        assert sum(line.count("CSV units") for line in lines) == (3 if len(channels) > 1 else 1)


def test_json_names_the_best_and_holds_no_nan() -> None:
    broken = leaderboard(math.nan)
    plain = json.loads(json.dumps(to_json(broken), allow_nan=False))
    assert plain["entries"][0]["mse"] is None
    assert (plain["best"], plain["best_model"], plain["best_baseline"]) == ("linear", "run [x]", "linear")
    assert "nan" in line_with(show(broken), "run [x] ")
