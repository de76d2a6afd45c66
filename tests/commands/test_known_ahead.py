"""Text of the days and columns that are known ahead, through every verb."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import torch

from tests.command_line import Finished
from tests.conftest import Cli, last_json
from tests.training.conftest import assert_same_weights
from timellm_cli.data.ridge import fit_linear
from timellm_cli.data.windows import load_data
from timellm_cli.evaluation.score import score
from timellm_cli.model.linear_days import fit_linear_facts
from timellm_cli.training.checkpoint import clock_of, load_checkpoint

torch.set_num_threads(1)

DAYS = 80
FIRST = datetime(2024, 1, 1)
Train = Callable[..., Finished]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Eighty days of two shops, a row every six hours. A sale doubles the first shop's counts and empties the second.

    Every ninth day has a sale, in column `sale` and in events.csv. The file ends with four rows without counts.
    """
    lines, events = ["date,sale,left,right"], ["start,text"]
    for row in range(4 * DAYS + 4):
        moment = FIRST + timedelta(hours=6 * row)
        day, hour = divmod(row, 4)
        sale = day % 9 == 0
        if sale and hour == 0:
            events.append(f"{moment.date()},sale")
        left, right = (10 + 3 * hour + row % 3) * (1 + sale), (20 - 2 * hour + row % 5) * (1 - sale)
        counts = f"{left},{right}" if row < 4 * DAYS else ","
        lines.append(f"{moment},{int(sale)},{counts}")
    (tmp_path / "events.csv").write_text("\n".join(events) + "\n", encoding="utf-8")
    whole = tmp_path / "shop.csv"
    whole.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "past.csv").write_text("\n".join(lines[:-4]) + "\n", encoding="utf-8")
    return whole


@pytest.fixture
def train(cli: Cli, shop: Path, tiny_llm: Path) -> Train:
    """Trains on the shops' past; the run has a name, and flags of its own."""

    def run(name: str, *flags: object) -> Finished:
        settings = {
            "seq-len": 28, "pred-len": 4, "patch-len": 8, "patch-stride": 4, "llm": "none", "shortcut": "fitted",
            "d-model": 8, "d-ff": 8, "n-heads": 2, "num-prototypes": 20, "batch-size": 16, "epochs": 6,
            "learning-rate": 0.03, "device": "cpu", "target": "right", "run-name": name, "patience": 0,
            "text-llm": tiny_llm,
        }  # fmt: skip
        given = [f"--{key}={value}" for key, value in settings.items()]
        finished = cli("train", shop.parent / "past.csv", *given, *flags)
        assert finished.returncode == 0, finished.stderr
        return finished

    return run


def mse(cli: Cli, name: str) -> float:
    return last_json(cli("eval", f"checkpoints/{name}/best.pt", "--json"))["entries"][0]["mse"]


TEXT = ("--events=events.csv", "--exclude=sale")
COLUMN = ("--future-columns=sale",)


def test_text_and_columns_help_where_they_say_what_happens(
    cli: Cli, train: Train, tmp_path: Path, tiny_llm: Path
) -> None:
    train("without", "--exclude=sale")
    train("text", *TEXT)
    train("facts", *TEXT, "--text-reader=columns")
    train("column", *COLUMN)
    files = [f"checkpoints/{name}/best.pt" for name in ("without", "text", "facts", "column")]
    plain = last_json(cli("eval", *files, "--json"))
    errors = {entry["name"]: entry["mse"] for entry in plain["entries"]}
    assert errors["linear+days"] < 0.7 * errors["linear"], "a baseline knows the sales, too"
    assert max(errors["text"], errors["facts"], errors["column"]) < 0.6 * errors["without"]
    arms = plain["arms"]
    assert arms["models"] == {"A": "without", "B": "facts", "C": "text"}, "the second kind of columns is left out"
    assert arms["mse"]["C"]["all"] == pytest.approx(errors["text"], rel=1e-6)
    assert arms["days"] == {"all": 16, "event": 1, "ordinary": 15}
    about = [verdict["sentence"] for verdict in plain["verdicts"] if verdict["about"] == "days ahead"]
    assert about[0].startswith("The text of the days may have helped or not, which is open"), "one seed decides nothing"
    shown = cli("eval", *files[:2], "--report", "page.html").stdout
    assert "what is known of the days ahead, MSE" in shown
    assert f"text that {tiny_llm.name} reads" in " ".join(shown.split())
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "MSE by what is known of the days ahead" in page
    assert "too few seeds or days" in page


def test_the_numeric_model_is_the_same_whatever_a_day_map_that_starts_at_zero_reads(
    train: Train, tmp_path: Path
) -> None:
    train("without", "--exclude=sale", "--max-steps=20", "--shortcut=linear")
    train("text", *TEXT, "--max-steps=20", "--shortcut=linear")
    plain, read = (load_checkpoint(tmp_path / "checkpoints" / name / "last.pt") for name in ("without", "text"))
    assert {name for name in read.weights if not name.startswith("day_map.")} == set(plain.weights)
    for name, weight in plain.weights.items():
        torch.testing.assert_close(read.weights[name], weight, msg=name)
    assert float(read.weights["day_map.text.core_AJD"].abs().sum()) > 0


@pytest.mark.parametrize("flags", [TEXT, COLUMN], ids=["text", "column"])
def test_a_run_continues_exactly_and_eval_repeats_its_figures(
    cli: Cli, train: Train, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    train("whole", *flags, "--schedule=constant", "--epochs=2")
    train("parts", *flags, "--schedule=constant", "--epochs=1")
    finished = cli("train", "--resume", "checkpoints/parts/last.pt", "--epochs=2")
    assert finished.returncode == 0, finished.stderr
    whole, parts = (load_checkpoint(tmp_path / "checkpoints" / name / "last.pt") for name in ("whole", "parts"))
    assert_same_weights(whole.weights, parts.weights)
    lines = (tmp_path / "checkpoints" / "whole" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    epochs = [line for line in map(json.loads, lines) if line["event"] == "epoch"]
    best = min(epochs, key=lambda line: line["val_loss"])
    assert mse(cli, "whole") == pytest.approx(best["test_mse"], rel=1e-6)


@pytest.mark.parametrize("flags", [(), ("--text-reader=columns",)], ids=["llm", "columns"])
def test_training_never_ends_worse_in_validation_than_it_starts_and_predict_forecasts_what_eval_scores(
    cli: Cli, train: Train, shop: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    train("run", *TEXT, *flags, "--epochs=1", "--learning-rate=0.5")
    lines = (tmp_path / "checkpoints" / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    epochs = [line for line in map(json.loads, lines) if line["event"] == "epoch"]
    best = load_checkpoint(tmp_path / "checkpoints" / "run" / "best.pt")
    assert [line["epoch"] for line in epochs] == [0, 1]
    assert best.epoch == 0, "a rate that ruins the weights"
    assert float(best.weights["day_map.start_CDK"].abs().sum()) > 0
    config = best.config.with_values({"data.path": tmp_path / "past.csv"})
    data = load_data(config, best.scaler, best.columns, best.ids, clock_of(best))
    linear = fit_linear(data)
    fit = fit_linear_facts(data, linear) if flags else None
    found = score(fit or linear, data, "val", 64).mse
    assert epochs[0]["val_mse"] == pytest.approx(found, rel=1e-4) if flags else epochs[0]["val_mse"] < found
    if fit is None:
        return
    past = (tmp_path / "past.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "shorter.csv").write_text("\n".join(past[:-4]) + "\n", encoding="utf-8")
    predicted = cli("predict", "checkpoints/run/best.pt", "shorter.csv")
    assert predicted.returncode == 0, predicted.stderr
    rows = [[float(cell) for cell in line.split(",")[1:]] for line in predicted.stdout.splitlines()[1:]]
    windows = data.windows("test")
    last = [int(end) - 1 for end in windows.windows_C.cumsum(0)]
    expected_CH = fit(windows.batch(last))
    raw_CH = expected_CH * torch.tensor(data.scaler.std_C)[:, None] + torch.tensor(data.scaler.mean_C)[:, None]
    assert rows == pytest.approx(raw_CH.T, rel=1e-3)


def test_a_run_continues_with_the_same_text_only(cli: Cli, train: Train, tmp_path: Path) -> None:
    train("run", *TEXT, "--schedule=constant", "--epochs=1")
    events = tmp_path / "events.csv"
    events.write_text(events.read_text(encoding="utf-8").replace("sale", "fair"), encoding="utf-8")
    finished = cli("train", "--resume", "checkpoints/run/last.pt", "--epochs=2")
    assert finished.returncode == 3
    assert "the text of the days" in finished.stderr


def test_predict_reads_columns_from_rows_without_a_target_or_from_a_file(cli: Cli, train: Train, shop: Path) -> None:
    train("column", *COLUMN)
    checkpoint = "checkpoints/column/best.pt"
    own = cli("predict", checkpoint, shop)
    assert own.returncode == 0, own.stderr
    assert own.stdout.splitlines()[1].startswith("2024-03-21 00:00:00"), "the forecast follows the last count"
    assert cli("predict", checkpoint, "past.csv", "--future", shop).stdout == own.stdout
    ordinary = shop.with_name("ordinary.csv")
    ordinary.write_text(
        "date,sale\n" + "".join(f"2024-03-21 {hour:02}:00:00,1\n" for hour in (0, 6, 12, 18)), encoding="utf-8"
    )
    assert cli("predict", checkpoint, "past.csv", "--future", ordinary).stdout != own.stdout
    missing = cli("predict", checkpoint, "past.csv")
    assert missing.returncode == 3
    assert "'sale', known ahead, has no value in 4 rows, the first at 2024-03-21 00:00:00" in missing.stderr


def test_predict_reads_the_events_of_the_days_to_forecast(cli: Cli, train: Train, shop: Path) -> None:
    train("text", *TEXT)
    shop.with_name("more.csv").write_text("start,text\n2024-03-21,sale\n", encoding="utf-8")
    with_sale = cli("predict", "checkpoints/text/best.pt", "past.csv", "--events", "more.csv", "--steps", 10)
    assert with_sale.returncode == 0, with_sale.stderr
    without = cli("predict", "checkpoints/text/best.pt", "past.csv", "--steps", 10)
    first = [[float(cell) for cell in run.stdout.splitlines()[1].split(",")[1:]] for run in (with_sale, without)]
    assert first[0][0] > first[1][0], "a sale raises the first shop's counts"
    assert len(without.stdout.splitlines()) == 11


def test_what_a_checkpoint_cannot_use_is_refused(cli: Cli, train: Train, shop: Path) -> None:
    train("without", "--exclude=sale", "--max-steps=2")
    train("shuffled", *TEXT, "--text-shuffle", "--max-steps=2")
    for flags, words in {
        ("without", "--events", "events.csv"): "trained without text",
        ("without", "--future", str(shop)): "trained without columns",
        ("shuffled",): "the text of other days",
    }.items():
        name, *more = flags
        finished = cli("predict", f"checkpoints/{name}/best.pt", "past.csv", *more)
        assert finished.returncode == 2
        assert words in finished.stderr


def test_series_of_a_panel_have_their_own_events_and_columns(cli: Cli, train: Train, shop: Path) -> None:
    """The two shops in long form: the same table, with events of one shop alone."""
    rows = [line.split(",") for line in shop.read_text(encoding="utf-8").splitlines()[1:]]
    long = [f"{date},left,{sale},{left}" for date, sale, left, _ in rows]
    long += [f"{date},right,{sale},{right}" for date, sale, _, right in rows]
    for name, kept in {"past": [line for line in long if not line.endswith(",")], "long": long}.items():
        shop.with_name(f"{name}.csv").write_text("\n".join(["date,shop,sale,count", *kept, ""]), encoding="utf-8")
    events = "start,series,text\n2024-01-10,left,sale\n2024-03-21,left,fair\n"
    shop.with_name("events.csv").write_text(events, encoding="utf-8")
    train("panel", "--id-column=shop", "--target=count", "--events=events.csv", *COLUMN, "--max-steps=30")
    finished = cli("predict", "checkpoints/panel/best.pt", "long.csv")
    assert finished.returncode == 0, finished.stderr
    assert [line.split(",")[0] for line in finished.stdout.splitlines()[1:]] == ["left"] * 4 + ["right"] * 4


def test_inspect_says_what_was_understood(cli: Cli, shop: Path) -> None:
    command = ("inspect", "past.csv", "--llm=none", "--seq-len=28", "--pred-len=4", *TEXT, "--weekday-text=weekday")
    plain = last_json(cli(*command, "--json"))["ahead"]
    assert (plain["lines"], plain["distinct"], plain["reader"]) == (80, 28, "smollm2-135m")
    assert plain["special_days"]["train"] == [49, 6]
    assert plain["shown"][0] == "Thursday: an ordinary day."
    shown = cli(*command, "--show-prompt").stdout
    assert "Text of the days after the last row" in shown
    assert "6  of 49 have an event or a holiday" in shown


def test_faults_of_what_is_known_are_said(cli: Cli, shop: Path) -> None:
    window = ("--llm=none", "--seq-len=28", "--pred-len=4")
    for flags, code, words in (
        (("--future-columns=sales",), 3, "did you mean 'sale'"),
        (("--future-columns=right", "--target=right"), 3, "named as known ahead"),
        (("--events=event.csv",), 3, "no file of events 'event.csv'"),
        (("--holiday-text=NZZ",), 2, "no country or stock exchange 'NZZ'"),
        (("--text-shuffle",), 2, "there is no text to read"),
    ):
        finished = cli("inspect", "past.csv", *window, *flags)
        assert finished.returncode == code, finished.stderr
        assert words in " ".join(finished.stderr.split())
