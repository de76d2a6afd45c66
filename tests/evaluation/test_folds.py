"""Folds of a backtest: which rows each has, and their joined scores."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.untrained import make_config
from timellm_cli.config import Config
from timellm_cli.data.batch import Batch
from timellm_cli.data.windows import load_data
from timellm_cli.datasets import DATASETS
from timellm_cli.errors import ConfigError, DataError
from timellm_cli.evaluation.folds import join_scores, require_whole_folds
from timellm_cli.evaluation.score import score
from timellm_cli.evaluation.seeds import differ_by_fold
from timellm_cli.splits import Series, split_series


def persist(batch: Batch) -> Tensor:
    return batch.history_BT[:, -1:].expand(-1, 12)


def folded(csv: Path, fold: int | None, folds: int = 3, **more: object) -> Config:
    return make_config(csv, data__folds=folds, data__fold=fold, **more)


def test_each_fold_is_trained_on_what_lies_before_it_and_all_parts_are_the_test_rows(small_csv: Path) -> None:
    plain = load_data(make_config(small_csv)).spans[0]
    spans = [load_data(folded(small_csv, fold)).spans[0] for fold in (1, 2, 3)]
    assert spans[0].scaler == plain.scaler and spans[0].val == plain.val
    assert [one.test.stop for one in spans][-1] == plain.test.stop == 400
    for before, after in pairwise(spans):
        assert after.test.start + 48 == before.test.stop, "the parts follow each other"
        assert after.scaler.stop > before.scaler.stop
    for one in spans:
        assert one.val.stop - one.val.start == plain.val.stop - plain.val.start
        assert one.scaler.stop == one.val.start + 48 and one.val.stop == one.test.start + 48
    assert load_data(folded(small_csv, None)).spans[0] == spans[-1], "where none is named it is the last"


def test_folds_of_a_known_dataset_are_months_and_of_a_panel_dates() -> None:
    window = Config().with_values({"window.seq_len": 96, "window.pred_len": 24}).window
    etth1 = Config().with_values({"data.dataset": "ETTh1", "data.folds": 4, "data.fold": 2}).data
    (spans,) = split_series(Series.single(17420), DATASETS["ETTh1"], etth1, window)
    assert (spans.scaler.stop, spans.val.stop, spans.test.stop) == (13 * 720, 17 * 720, 18 * 720)
    series = Series(("a", "b"), (0, 100), (1000, 900))
    panel = Config().with_values({"data.dataset": "custom", "data.id_column": "id", "data.folds": 2}).data
    first, second = split_series(series, None, panel, window)
    assert first.test.start == second.test.start + 100 and first.test.stop == second.test.stop + 100
    assert first.test.stop == 1000


def test_too_many_folds_are_refused_with_the_remedy(small_csv: Path) -> None:
    with pytest.raises(DataError) as refused:
        load_data(folded(small_csv, 1, folds=8))
    assert "the test split has" in refused.value.message and "fewer --folds than 8" in str(refused.value.hint)
    with pytest.raises(ValueError, match="fold 4 is above the number of folds, which is 3"):
        folded(small_csv, 4)


def test_joined_scores_are_those_of_all_windows_in_units_of_the_first_fold(small_csv: Path) -> None:
    data = [load_data(folded(small_csv, fold)) for fold in (1, 2, 3)]
    std_C = data[0].scaler.std_C
    assert not np.allclose(std_C, data[2].scaler.std_C, rtol=1e-3)
    folds = [score(persist, one, "test", 16, std_C=std_C) for one in data]
    joined = join_scores(folds)
    squared, places = [], []
    for one in data:
        batch = one.windows("test").batch(range(len(one.windows("test"))))
        ratio_B1 = torch.from_numpy(one.scaler.std_C / std_C)[batch.channel_B, None]
        squared.append(((persist(batch).double() - batch.future_BH) * ratio_B1).square())
        places.append(batch.channel_B)
    every_BH, channel_B = torch.cat(squared), torch.cat(places)
    assert joined.mse == pytest.approx(float(every_BH.mean()), rel=1e-9)
    assert joined.of_channel(1).mse == pytest.approx(float(every_BH[channel_B == 1].mean()), rel=1e-9)
    assert joined.samples == len(every_BH)
    expected_W = torch.cat([every_BH[channel_B == channel].mean(dim=1) for channel in (0, 1)])
    assert joined.window_mse_W == pytest.approx(expected_W.numpy(), rel=1e-6)


def test_a_model_without_one_of_the_folds_is_refused(small_csv: Path) -> None:
    configs = [folded(small_csv, fold, train__seed=seed) for seed in (1, 2) for fold in (1, 2, 3)]
    names, stages = [f"run-{place}" for place in range(6)], ["best"] * 6
    require_whole_folds(configs, names, stages)
    with pytest.raises(ConfigError, match="fold 3 is missing beside run-3"):
        require_whole_folds(configs[:-1], names[:-1], stages[:-1])
    with pytest.raises(ConfigError, match="a fold is there twice beside run-0"):
        require_whole_folds([*configs[:3], configs[0]], names[:4], stages[:4])
    with pytest.raises(ConfigError, match="run-1 has no folds"):
        require_whole_folds([configs[0], make_config(small_csv)], names[:2], stages[:2])


def test_a_difference_between_folds_is_judged_by_its_pairs() -> None:
    """Folds are of unequal difficulty; what counts is the difference on each."""
    found = differ_by_fold([0.10, 0.50, 0.91], [0.12, 0.53, 0.93], (1, 0))
    assert found.mean == pytest.approx(-0.07 / 3) and found.folds == 3
    assert found.low is not None and found.high is not None
    assert found.low == pytest.approx(-0.07 / 3 - 4.303 * found.standard_error) and found.outcome == "lower"
