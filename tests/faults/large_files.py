"""Large CSVs through the command line: seconds and memory to inspect them and to train on them.

    python -m tests.faults.large_files

Training's memory is what it takes beyond a training on the first rows of the same file, beside the float32 table of
all values: reading must not hold much more than that, and windows must be views of it.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import psutil

from tests.conftest import REPOSITORY

MIB = 2**20
SHAPES = {"5,000,000 rows": (5_000_000, 7), "2,000 columns": (20_000, 2_000)}
_PIECE = 2_000
_FEW_ROWS = 1_000
_POLL = 0.005
_WINDOW = ("--dataset=custom", "--seq-len=96", "--pred-len=24", "--llm=none", "--device=cpu")


@dataclass(frozen=True)
class Finished:
    """A process that did its work: seconds, and the most memory of its own that it held, in MiB.

    Pages of files, such as those of a CSV that is read, are not its own: the system takes them back at need.
    """

    seconds: float
    peak: float


def write_large(path: Path, rows: int, columns: int) -> None:
    """Minutes, and noise to three decimals that comes again every `_PIECE` rows."""
    noise = np.random.default_rng(0).normal(size=(_PIECE, columns)).tolist()
    ends = ["," + ",".join([f"{value:.3f}" for value in values_C]) + "\n" for values_C in noise]
    start = np.datetime64("2000-01-01T00:00:00")
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(["date", *(f"c{number}" for number in range(1, columns)), "OT"]) + "\n")
        for first in range(0, rows, _PIECE):
            stamps = (start + np.arange(first, min(first + _PIECE, rows)) * np.timedelta64(1, "m")).astype(str)
            file.writelines(stamp.replace("T", " ") + end for stamp, end in zip(stamps, ends, strict=False))


def table_size(rows: int, columns: int) -> float:
    """MiB of the values in float32."""
    return rows * columns * 4 / MIB


def watch(*arguments: object, cwd: Path) -> Finished:
    """Run python with these arguments to its end. Raises RuntimeError where it fails."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    started, peak = time.perf_counter(), 0
    process = psutil.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8", cwd=cwd, env=environment,
    )  # fmt: skip
    while process.poll() is None:
        try:
            memory = process.memory_info()
            peak = max(peak, memory.rss - getattr(memory, "shared", 0))
        except psutil.NoSuchProcess:
            break
        time.sleep(_POLL)
    said = process.communicate()[1]
    if process.returncode:
        raise RuntimeError(f"{arguments} ended with exit code {process.returncode}:\n{said}")
    return Finished(time.perf_counter() - started, peak / MIB)


def cut(path: Path, rows: int) -> Path:
    """A file of the first rows of another one."""
    small = path.with_name(f"first-{path.name}")
    with path.open(encoding="utf-8") as source, small.open("w", encoding="utf-8") as target:
        target.writelines(islice(source, rows + 1))
    return small


def main() -> None:
    """Print a row for each shape."""
    print(
        f"{'file':16}{'MiB':>6}{'inspect s':>11}{'its MiB':>9}{'train s':>9}{'its MiB':>9}"
        f"{'beyond few rows':>17}{'float32 table':>15}{'ratio':>7}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, (rows, columns) in SHAPES.items():
            path = folder / f"{columns}.csv"
            write_large(path, rows, columns)
            run = ["-m", "timellm_cli", "train", *_WINDOW, "--max-steps=20"]
            inspected = watch("-m", "timellm_cli", "inspect", *_WINDOW, f"--data-path={path}", cwd=folder)
            few = (f"--data-path={cut(path, _FEW_ROWS)}", f"--window-stride={_FEW_ROWS // 10}")
            of_few = watch(*run, *few, f"--run-name=few-{columns}", cwd=folder)
            all_rows = (f"--data-path={path}", f"--window-stride={rows // 10}")
            trained = watch(*run, *all_rows, f"--run-name=all-{columns}", cwd=folder)
            beyond, table = trained.peak - of_few.peak, table_size(rows, columns)
            print(
                f"{name:16}{path.stat().st_size / MIB:6.0f}{inspected.seconds:11.1f}{inspected.peak:9.0f}"
                f"{trained.seconds:9.1f}{trained.peak:9.0f}{beyond:17.0f}{table:15.0f}{beyond / table:7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
