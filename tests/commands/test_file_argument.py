"""`timellm inspect FILE.csv` and `timellm train FILE.csv`: a file of one's own in one command."""

from pathlib import Path

import polars as pl
import pytest

from tests.conftest import Cli, last_json
from timellm_cli.training.checkpoint import load_checkpoint


@pytest.fixture
def sales(small_csv: Path) -> Path:
    """The small CSV with other names: `when`, `shop`, `load`."""
    path = small_csv.with_name("sales.csv")
    path.write_text(small_csv.read_text(encoding="utf-8").replace("date,OT,load", "when,shop,load"), encoding="utf-8")
    return path


def test_inspect_of_a_file_says_what_was_understood(cli: Cli, sales: Path) -> None:
    record = last_json(cli("inspect", "sales.csv", "--json"))
    assert (record["dataset"], record["data_path"], record["rows"]) == ("custom", str(sales), 400)
    assert (record["seq_len"], record["pred_len"]) == (96, 24), "of profile custom"
    assert record["columns"] == ["shop", "load"]
    assert record["data_notes"] == [
        "timestamps are in the column 'when' (--date-column)",
        "the target is 'load', the last column (--target); with features M every column is forecast and scored alike",
    ]
    shown = cli("inspect", "sales.csv", "--seq-len", 48, COLUMNS="200")
    assert "sales.csv: 48 rows of history" in shown.stdout
    assert "note: timestamps are in the column 'when'" in shown.stdout


def test_train_of_a_file_stores_what_was_found_and_predict_does_not_guess(cli: Cli, sales: Path) -> None:
    small = ("--llm", "none", "--seq-len", 48, "--pred-len", 6, "--max-steps", 2, "--run-name", "run")
    trained = cli("train", "sales.csv", *small)
    assert trained.returncode == 0, trained.stderr
    assert "timestamps are in the column 'when'" in trained.stderr
    best = sales.parent / "checkpoints" / "run" / "best.pt"
    data = load_checkpoint(best).config.data
    assert (data.date_column, data.target, data.path) == ("when", "load", sales)
    other = sales.with_name("other.csv")  # a guess would find two columns of timestamps here
    lines = sales.read_text(encoding="utf-8").splitlines()
    other.write_text("\n".join([lines[0] + ",seen", *(f"{line},{line[:19]}" for line in lines[1:])]), encoding="utf-8")
    forecast = cli("predict", best, other)
    assert forecast.returncode == 0, forecast.stderr
    assert forecast.stdout.splitlines()[0] == "when,shop,load"
    assert forecast.stdout.splitlines()[1].startswith("2024-01-17 16:00:00,")
    resumed = cli("train", "sales.csv", *small, "--resume", "auto")
    assert resumed.returncode == 0, resumed.stderr


def test_names_with_commas_are_tried_whole_first_and_may_be_quoted(cli: Cli, sales: Path) -> None:
    text = sales.read_text(encoding="utf-8").replace("when,shop,load", '"when, local","shop, a",load')
    sales.write_text(text, encoding="utf-8")
    for columns in ("shop, a,load", "shop,a,load", '"shop, a",load', 'load,"shop, a"'):
        assert last_json(cli("inspect", sales, "--columns", columns, "--json"))["columns"] == ["shop, a", "load"]
    for dates in ("when, local", '"when, local"'):
        assert last_json(cli("inspect", sales, "--date-column", dates, "--json"))["columns"] == ["shop, a", "load"]
    assert last_json(cli("inspect", sales, "--exclude", "shop, a", "--json"))["columns"] == ["load"]


def test_dayfirst_is_a_flag_of_its_own(cli: Cli, sales: Path) -> None:
    rows = [f"0{1 + row // 24}/02/2024 {row % 24:02}:00,{row * 7 % 11}" for row in range(150)]
    sales.write_text("\n".join(["when,load", *(row for row in rows if row)]) + "\n", encoding="utf-8")
    small = ("--seq-len", 12, "--pred-len", 3, "--top-lags", 3, "--patch-len", 4)
    assert last_json(cli("inspect", sales, *small, "--dayfirst", "--json"))["ready"] is False, "the LLM alone is absent"
    refused = cli("inspect", sales, *small, "--monthfirst", "--json")
    gaps = [check for check in last_json(refused)["checks"] if check["name"] == "data"]
    assert "irregular timestamps" in gaps[0]["detail"]
    both = cli("inspect", sales, *small, "--dayfirst", "--date-format", "monthfirst")
    assert both.returncode == 2 and "--dayfirst and --date-format monthfirst" in both.stderr


def test_parquet_goes_through_every_verb_as_the_csv_does(cli: Cli, sales: Path) -> None:
    table = pl.read_csv(sales, try_parse_dates=True)
    table.write_parquet(sales.with_suffix(".parquet"))
    small = ("--llm", "none", "--seq-len", 48, "--pred-len", 6, "--max-steps", 2)
    seen = {}
    for suffix in (".csv", ".parquet"):
        path = sales.with_suffix(suffix)
        notes = last_json(cli("inspect", path, *small[:6], "--json"))["data_notes"]
        trained = cli("train", path, *small, "--run-name", f"run{suffix}")
        assert trained.returncode == 0, trained.stderr
        best = sales.parent / "checkpoints" / f"run{suffix}" / "best.pt"
        scores = cli("eval", best, "--json").stdout.replace(suffix, "")
        forecast = cli("predict", best, path)
        other = cli("predict", best, sales)
        seen[suffix] = (notes, scores, forecast.stdout, other.stdout)
    assert seen[".csv"] == seen[".parquet"]
    assert '"mse"' in seen[".csv"][1]
    assert seen[".csv"][2].splitlines()[1].startswith("2024-01-17 16:00:00,")


def test_a_profile_or_a_file_of_settings_takes_the_place_of_profile_custom(cli: Cli, sales: Path) -> None:
    shorter = ("--seq-len", 48, "--pred-len", 12, "--json")
    llm = last_json(cli("inspect", sales, "--profile", "etth1-gpt2", *shorter))["llm"]
    assert llm["name"] == "openai-community/gpt2"
    (sales.parent / "my.toml").write_text("[window]\nseq_len = 30\npred_len = 7\n", encoding="utf-8")
    record = last_json(cli("inspect", sales, "--config", "my.toml", "--json"))
    assert (record["dataset"], record["seq_len"], record["pred_len"]) == ("custom", 30, 7)


def test_the_name_of_a_known_dataset_is_as_good_as_a_file(cli: Cli) -> None:
    record = last_json(cli("inspect", "ETTh1", "--json"))
    assert (record["dataset"], record["rows"], record["data_file_present"]) == ("ETTh1", 17_420, False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sales.csv", "--data-path", "other.csv"), "'sales.csv' and --data-path other.csv"),
        (("sales.csv", "--dataset", "ETTh1"), "'sales.csv' and --dataset ETTh1"),
        (("sales.csv", "--set", "data.path=other.csv"), "'sales.csv' and --data-path other.csv"),
        (("ETTh1", "--dataset", "ETTh2"), "'ETTh1' and --dataset ETTh2"),
    ],
)
@pytest.mark.parametrize("verb", ["inspect", "train"])
def test_a_file_and_another_one_are_refused_together(
    cli: Cli, sales: Path, verb: str, arguments: tuple[str, ...], words: str
) -> None:
    finished = cli(verb, *arguments)
    assert finished.returncode == 2
    assert words in finished.stderr and "differ" in finished.stderr


def test_the_same_file_twice_is_no_fault(cli: Cli, sales: Path) -> None:
    assert cli("inspect", "sales.csv", "--data-path", "sales.csv", "--dataset", "custom").returncode == 0
    assert cli("inspect", "ETTh1", "--dataset", "ETTh1").returncode == 0


@pytest.mark.parametrize("verb", ["inspect", "train"])
def test_a_missing_file_and_doubt_are_data_errors(cli: Cli, sales: Path, verb: str) -> None:
    missing = cli(verb, "sale.csv", "--llm", "none")
    assert missing.returncode == 3 and "sale.csv" in missing.stderr
    doubt = cli(verb, "sales.csv", "--llm", "none", "--features", "S")
    assert doubt.returncode == 3
    assert "2 columns hold numbers: 'shop', 'load'" in doubt.stderr and "--target load" in doubt.stderr
