"""Trains on and forecasts each small table from the field by the real command line, as a Markdown table.

python benchmarks/field_tables.py ../shared/cases/tables
"""

import argparse
import shlex
import tempfile
from pathlib import Path

from tests.command_line import run_here

SMALL = "--llm none --shortcut none --seq-len 24 --pred-len 6 --max-steps 3 --batch-size 4 --run-name run"
OPTIONS = {
    "dst_autumn": "--timezone Europe/Berlin",
    "pjm_dst": "--timezone America/New_York",
    "dmy10_new": "--dayfirst",
    "de_int": "--thousands .",
    "household": "--date-column Date,Time --na '?' --decimal . --fill linear",
    "cryptodd": "--skip-rows 1 --exclude unix",
    "openmeteo": "--skip-rows 3",
    "sentinel": "--na=-9999 --fill linear",
    "jena_dup": "--duplicates first",
    "fiscal": "--fill linear",
    "jitter": "--snap 10min",
    "stock_yahoo": "--closed-on NYSE",
    "nixtla_long": "--id-column unique_id",
    "nixtla_y_only": "--id-column unique_id",
}
"""What a file needs and does not say; its error names each of these."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    print("| `timellm train` | first line of the forecast, or why not |\n|---|---|")
    for path in sorted(parser.parse_args().folder.glob("*.csv")):
        options = OPTIONS.get(path.stem, "")
        print(f"| `{path.name} {options}".rstrip() + f"` | {forecast(path.resolve(), options)} |", flush=True)


def forecast(path: Path, options: str) -> str:
    """The first line that `predict` writes after `train`, or the error of the verb that fails."""
    with tempfile.TemporaryDirectory() as folder:
        trained = run_here(["train", str(path), *shlex.split(options), *shlex.split(SMALL)], Path(folder))
        if trained.returncode:
            return trained.stderr.splitlines()[-2]
        done = run_here(["predict", "checkpoints/run/best.pt", str(path)], Path(folder))
        return f"`{done.stdout.splitlines()[1]}`" if done.returncode == 0 else done.stderr.splitlines()[-2]


if __name__ == "__main__":
    main()
