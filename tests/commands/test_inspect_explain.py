"""`timellm inspect --explain` and `--show-patches`: what they say of other and other runs."""

import re
from pathlib import Path

import pytest

from tests.conftest import Cli, last_json
from tests.panels import IDS, write_long
from timellm_cli.splits import BORDERS

SMALL = ("--seq-len", 48, "--pred-len", 12, "--llm", "none")


def answers(cli: Cli, *arguments: object) -> dict[str, str]:
    """The answer to each question, by the question."""
    record = last_json(cli("inspect", "--json", "--explain", *arguments))
    return {entry["question"]: entry["answer"] for entry in record["answers"]}


def explained(cli: Cli, *arguments: object) -> str:
    return " ".join(cli("inspect", "--explain", *arguments).stdout.split())


def test_explain_puts_the_numbers_into_the_formulas(cli: Cli) -> None:
    text = explained(cli, "--vram", "6GiB")
    for formula in (
        "(34,560 - 512 - 96) + 1 = 33,953 windows",
        "33,953 x 7 channels = 237,671 samples",
        "237,671 // 8 = 29,708 steps an epoch, 7 samples left over",
        "(512 - 16) // 8 + 2 = 64 a sample; x 8 = 512 a step",
        "297,080 steps // 1,000 = 297 times step-N.pt is written; the newest 3 stay",
        "1,024 rows x 2,048 x 2 bytes, and 151,936 row numbers x 8 bytes",
    ):
        assert formula in text


def test_what_people_ask_is_answered_with_the_numbers_of_the_run(cli: Cli) -> None:
    run = ("--dataset", "ETTh1", "--seq-len", 256, "--batch-size", 2, "--workers", 2)
    found = answers(cli, *run)
    for question, answer in {
        "Where do the 8,640 rows of train come from?": "12 x 30 days x 24 rows = 8,640 rows train.",
        "What is a sample? Why times 7?": "8,289 windows x 7 = 58,023 training samples.",
        "Is a step an iteration? Is it one batch?": "An epoch: 58,023 samples // 2 = 29,011 steps. It leaves 1 sample",
        "What do batch_size 2 and workers 2 mean?": "2 processes prepare the next batches on the CPU",
        "What does save_steps count?": "a resumed run counts on. 290,110 steps // 1,000 = 290 times",
        "Which stride is which?": "Patch 1 has rows 1 to 16 of the history, patch 2 rows 9 to 24: they share 8 rows.",
        "What is shuffled?": "The order of the 58,023 training samples, anew in each epoch (from seed 2021)",
        "How many patches go into the next layer?": "(256 - 16) // 8 + 2 = 32 of each sample, x 2 = 64 in a step.",
        "What does the prompt say?": "are the same for every sample and read once a run.",
    }.items():
        assert answer in found[question]
    printed = explained(cli, *run)
    assert all(question in printed and answer in printed for question, answer in found.items())


@pytest.mark.parametrize(("dataset", "day"), [("ETTh2", 24), ("ETTm1", 96)])
def test_the_rows_of_an_ett_split_are_months_of_thirty_days(cli: Cli, dataset: str, day: int) -> None:
    train, val = 30 * day * BORDERS[0], 30 * day * (BORDERS[1] - BORDERS[0])
    answer = answers(cli, "--dataset", dataset)[f"Where do the {train:,} rows of train come from?"]
    assert f"12 x 30 days x {day} rows = {train:,} rows train. The next 4 months, {val:,} rows, validate" in answer


def test_a_custom_table_is_cut_by_its_shares_and_windows_step_along_it(cli: Cli, small_csv: Path) -> None:
    arguments = (small_csv, *SMALL, "--window-stride", 5, "--save-steps", 0, "--batch-size", 1)
    text = explained(cli, *arguments)
    assert "(280 - 48 - 12) // 5 + 1 = 45 windows" in text
    found = answers(cli, *arguments)
    rows = found["Where do the 280 rows of train come from?"]
    assert "The file has 400 rows, cut in order of time: the first 70 % train, 280 rows." in rows
    assert "The last 20 %, 80 rows, test. The 40 rows between them validate." in rows
    assert "The first window begins at row 1, the second at row 6." in found["Which stride is which?"]
    assert "It is 0 here, so none is written." in found["What does save_steps count?"]
    assert "There is no LLM" in found["How many patches go into the next layer?"]
    assert "What does the prompt say?" not in found


def test_a_part_of_the_rows_and_a_fold_are_explained(cli: Cli, small_csv: Path) -> None:
    few = answers(cli, "--dataset", "ETTh1", "--percent", 10)["Where do the 1,324 rows of train come from?"]
    assert "(8,640 - 512) x 10 // 100 + 512 = 1,324 rows." in few
    record = last_json(cli("inspect", small_csv, *SMALL, "--folds", 2, "--fold", 1, "--json"))
    rows = record["splits"]["train"]["rows"]
    fold = answers(cli, small_csv, *SMALL, "--folds", 2, "--fold", 1)[f"Where do the {rows} rows of train come from?"]
    assert f"this is fold 1: 40 rows. The 40 rows before them validate, and all {rows} rows before these train." in fold


def test_accumulation_and_max_steps_are_said_and_a_step_is_still_a_batch(cli: Cli) -> None:
    run = ("--dataset", "ETTh1", "--seq-len", 256, "--batch-size", 2, "--accumulate", 4)
    question = "Is a step an iteration? Is it one batch?"
    step = answers(cli, *run, "--epochs", 1)[question]
    assert "The weights change after every 4 steps" in step and "one update sees 4 x 2 = 8 samples." in step
    assert "That makes 7,253 updates. The last update of an epoch" in step
    found = answers(cli, *run, "--max-steps", 900)
    assert "max_steps ends the run after 900 steps; all epochs would have 290,110." in found[question]
    assert "The run has 900 steps and save_steps is 1,000" in found["What does save_steps count?"]


def test_processes_share_a_batch(cli: Cli) -> None:
    run = ("--dataset", "ETTh1", "--batch-size", 6, "--processes", 4, "--gpu", "T4", "--llm", "gpt2")
    found = answers(cli, *run)
    assert "4 processes share the batch, 2 samples each at most" in found["Is a step an iteration? Is it one batch?"]
    assert "of all processes together" in found["What do batch_size 6 and workers 0 mean?"]
    stages = last_json(cli("inspect", "--json", "--show-patches", *run))["shapes"]
    assert stages[0]["shape"] == [2, 512]


@pytest.mark.parametrize(("split_by", "how"), [("dates", "cut at the same dates"), ("ratio", "is cut by itself")])
def test_of_a_panel_the_series_and_their_rows_are_explained(cli: Cli, tmp_path: Path, split_by: str, how: str) -> None:
    path = write_long(tmp_path / "panel.csv")
    named = ("--date-column", "ds", "--target", "y", "--id-column", "unique_id", "--split-by", split_by)
    found = answers(cli, path, *named, *SMALL)
    rows = found["Where do the 1,120 rows of train come from?"]
    assert how in rows and "with their histories: 1,120 rows in train" in rows
    assert "he first 70 % of " in rows and "the last 20 % test" in rows
    windows = len(IDS) * (280 - 48 - 12 + 1)
    assert f"their {windows:,} windows are {windows:,} training samples." in found["What is a sample?"]


def test_patches_are_shown_with_their_rows_and_their_padding(cli: Cli, small_csv: Path) -> None:
    shown = cli("inspect", small_csv, *SMALL, "--show-patches", "--batch-size", 4, COLUMNS="80").stdout
    assert re.search(r"history +4 x 48 +batch_size x seq_len", shown)
    assert re.search(r"patches +4 x 6 x 16 +6 patches of 16 rows \(patch_len\)", shown)
    assert "Patches of the first training sample: load, 2024-01-01 00:00:00" in shown
    assert "2 more patches" in shown
    lines = [line.split() for line in shown.splitlines()]
    first, second = (next(n for n, line in enumerate(lines) if line[:2] == ["patch", name]) for name in "12")
    assert lines[first + 1][:2] == ["rows", "1-16"] and lines[second + 1][:2] == ["rows", "9-24"]
    assert lines[first + 1][2:] == lines[second][2:], "neighbours overlap by half"
    last = next(line for line in lines if line[:2] == ["rows", "41-48"])
    assert len(last) == 10 and all(value.endswith("*") and value == last[2] for value in last[2:])


def test_without_a_table_shapes_are_shown_alone(cli: Cli, small_csv: Path) -> None:
    shown = cli("inspect", "--show-patches").stdout
    assert "Shapes of a step, 8 samples" in shown and "not shown: the data file is not here" in shown
    assert last_json(cli("inspect", "--json", "--show-patches"))["patches"] is None
    lines = small_csv.read_text(encoding="utf-8").splitlines()
    small_csv.write_text("\n".join([*lines[:20], *lines[21:]]) + "\n", encoding="utf-8")
    assert "training would refuse the data file" in cli("inspect", small_csv, *SMALL, "--show-patches").stdout


def test_json_has_every_patch_with_all_of_its_values(cli: Cli, small_csv: Path) -> None:
    record = last_json(cli("inspect", small_csv, *SMALL, "--show-patches", "--json"))
    patches, shapes = record["patches"], {stage["key"]: stage["shape"] for stage in record["shapes"]}
    assert shapes["patches"] == [8, 6, 16]
    assert [len(patch["values"]) for patch in patches["patches"]] == [16] * 6
    assert [(patch["first"], patch["padded"]) for patch in patches["patches"]] == [
        (1, 0), (9, 0), (17, 0), (25, 0), (33, 0), (41, 8),
    ]  # fmt: skip
    assert (patches["channel"], len(patches["raw"])) == ("load", 48)
    assert "answers" not in record and "patches" not in last_json(cli("inspect", small_csv, *SMALL, "--json"))


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("patch", [(16, 8), (40, 3), (5, 9)])
def test_patches_fit_the_terminal(cli: Cli, small_csv: Path, width: int, patch: tuple[int, int]) -> None:
    cut = ("--patch-len", patch[0], "--patch-stride", patch[1])
    shown = cli("inspect", small_csv, *SMALL, *cut, "--show-patches", "--explain", COLUMNS=str(width)).stdout
    assert max(map(len, shown.splitlines())) <= width
