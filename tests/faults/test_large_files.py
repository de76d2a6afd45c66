"""Shortened runs of `tests.faults.large_files`; its full figures are in benchmarks/RESULTS.md."""

from pathlib import Path

from tests.faults.large_files import cut, table_size, watch, write_large

LOAD = """
import sys
from pathlib import Path
from timellm_cli.config import Config
from timellm_cli.data.windows import load_data
config = {"data": {"dataset": "custom", "path": Path(sys.argv[1])}, "window": {"seq_len": 96, "pred_len": 24}}
data = load_data(Config.model_validate(config))
samples = data.training_windows()
assert len(samples.batch([7])) == 1
assert samples.values_KV is data.values_KV, "a copy"
"""


def test_a_table_takes_less_than_six_times_the_memory_of_its_float32_values(tmp_path: Path) -> None:
    """Beyond a table of half the rows, so that what any table takes does not count.

    Float64 values and timestamps are 2.25 times; the reader's allocator keeps about as much again for some seconds.
    """
    path, half = tmp_path / "long.csv", 600_000
    write_large(path, 2 * half, 8)
    whole, first = watch("-c", LOAD, path, cwd=tmp_path), watch("-c", LOAD, cut(path, half), cwd=tmp_path)
    assert 1 < (whole.peak - first.peak) / table_size(half, 8) < 6
