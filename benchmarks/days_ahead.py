"""Trains the five arms of the question what text about the days ahead is worth, and scores them together.

    python benchmarks/days_ahead.py metro-traffic|auckland-pedestrians-2019 [--pred-len 24] [--seeds 3] [--folds 1]
        [--epochs 6] [--stride 1] [--columns A,B] [--weekday weekday|date] [--checkpoints FOLDER] [--arms ABCDE]
        [--json FILE]

The numeric model is the same in all arms: a fitted shortcut without an LLM. A reads nothing; B columns of 0 and 1;
C text, by SmolLM2-135M; D the text of other days; E the text by SmolLM2 with drawn weights. The verdict of
`timellm eval` is printed, and written as JSON. Runs that are there already are not trained again (`--resume auto`).
"""

import argparse
import contextlib
import io
import json
from pathlib import Path

import typer

from timellm_cli.cli import app

TEXT = {
    "metro-traffic": ["--holiday-text", "US-MN"],
    "auckland-pedestrians-2019": ["--holiday-text", "NZ-AUK", "--events", "auckland-pedestrians-2019"],
}
ARMS = {
    "A": None,
    "B": ["--text-reader", "columns"],
    "C": ["--text-llm", "smollm2-135m"],
    "D": ["--text-llm", "smollm2-135m", "--text-shuffle"],
    "E": ["--text-llm", "smollm2-135m", "--text-llm-weights", "random"],
}


def commands(options: argparse.Namespace) -> dict[str, list[str]]:
    """The command line that trains each arm."""
    common = [
        "train", "--dataset", options.dataset, "--fill", "linear", "--llm", "none", "--seq-len", "168",
        "--pred-len", str(options.pred_len), "--shortcut", "fitted", "--num-prototypes", "20", "--n-heads", "1",
        "--d-ff", "8", "--batch-size", "128", "--epochs", str(options.epochs), "--patience", "0",
        "--window-stride", str(options.stride), "--seeds", str(options.seeds), "--device", "cpu", "--save-steps", "0",
        "--log-steps", "10000", "--resume", "auto", "--checkpoints", str(options.checkpoints),
    ]  # fmt: skip
    if options.folds > 1:
        common += ["--folds", str(options.folds)]
    if options.columns:
        common += ["--columns", options.columns, "--target", options.columns.split(",")[-1]]
    text = [*TEXT[options.dataset], "--weekday-text", options.weekday]
    found = {}
    for arm in options.arms:
        more = ARMS[arm]
        flags = [] if more is None else [*text, *more]
        found[arm] = [*common, "--run-name", f"{options.dataset}-{options.pred_len}-{arm}", *flags]
    return found


def call(arguments: list[str]) -> None:
    """Run a command of `timellm` in this process."""
    typer.main.get_command(app).main(arguments, prog_name="timellm", standalone_mode=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=list(TEXT))
    parser.add_argument("--pred-len", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--weekday", choices=("weekday", "date"), default="weekday")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--columns", help="Channels to use, separated by commas. Default: all.")
    parser.add_argument("--arms", default="ABCDE")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    for arguments in commands(options).values():
        call(arguments)
    pattern = f"{options.dataset}-{options.pred_len}-*"
    files = sorted(str(path) for path in options.checkpoints.glob(f"{pattern}/best.pt"))
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        call(["eval", *files, "--device", "cpu", "--json"])
    found = json.loads(output.getvalue())
    for verdict in found["verdicts"]:
        print(verdict["sentence"], f"({verdict['evidence']})")
    print(json.dumps({key: found["arms"][key] for key in ("mse", "days")}, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
