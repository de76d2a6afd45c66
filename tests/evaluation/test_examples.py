from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.untrained import make_config
from timellm_cli.data.batch import Batch
from timellm_cli.data.read_table import read_table
from timellm_cli.data.windows import load_data
from timellm_cli.evaluation.examples import make_examples, rank_windows
from timellm_cli.evaluation.score import score


def zeros(batch: Batch) -> Tensor:
    return torch.zeros(len(batch), 12)


@pytest.mark.parametrize("limit", [None, 20])
def test_best_median_and_worst_windows_are_shown_in_the_units_of_the_csv(small_csv: Path, limit: int | None) -> None:
    """Against a plain loop over all windows, and rows read straight from the table."""
    data = load_data(make_config(small_csv))
    raw_NC = read_table(small_csv, data.config.data).values
    samples = data.windows("test")
    scores = score(zeros, data, "test", 32, limit=limit)
    scored = samples.batch([channel * 69 + window for channel in (0, 1) for window in range(limit or 69)])
    by_hand = [float((future_H.double() ** 2).mean()) for future_H in scored.future_BH]
    assert scores.window_mse_W.flatten() == pytest.approx(by_hand, rel=1e-9)
    assert scores.window_mse_W.mean() == pytest.approx(scores.mse, rel=1e-12)

    best, median, worst = make_examples(zeros, data, "test", scores)
    assert [example.rank for example in (best, median, worst)] == ["best", "median", "worst"]
    ordered = sorted(by_hand)
    expected = (ordered[0], ordered[(len(ordered) - 1) // 2], ordered[-1])
    assert (best.mse, median.mse, worst.mse) == pytest.approx(expected, rel=1e-9)
    for example in (best, median, worst):
        channel = data.table.columns.index(example.channel)
        row = data.table.stamps.to_list().index(datetime.fromisoformat(example.first))
        assert example.history == pytest.approx(raw_NC[row - 48 : row, channel], rel=1e-5)
        assert example.future == pytest.approx(raw_NC[row : row + 12, channel], rel=1e-5)
        assert example.forecast == pytest.approx([data.scaler.mean_C[channel]] * 12)
        assert np.datetime64(example.last) - np.datetime64(example.first) == np.timedelta64(11, "h")


def test_of_equal_windows_the_first_is_taken(small_csv: Path) -> None:
    data = load_data(make_config(small_csv))
    scores = score(lambda batch: batch.future_BH, data, "test", 32)
    assert rank_windows(scores) == {"best": 0, "median": 68, "worst": 137}
