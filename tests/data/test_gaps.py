"""Absent values: histories are filled from their own rows, and absent targets are neither trained on nor scored."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.conftest import config_of, train
from timellm_cli.config import Config
from timellm_cli.data.ridge import fit_linear
from timellm_cli.data.table import fill_history
from timellm_cli.data.windows import ForecastData, fill_histories, load_data
from timellm_cli.evaluation.bands import ValidationErrors
from timellm_cli.evaluation.baselines import fit_baselines, last_value
from timellm_cli.evaluation.coverage import CoverageCount
from timellm_cli.evaluation.score import score
from timellm_cli.training.records import EpochFinished

FILLS = ("linear", "previous", "zero")


def random_walk(path: Path, missing: float, rows: int = 3000, fill: str = "linear") -> ForecastData:
    """Hours of a random walk with unit steps; a share `missing` of the cells is empty, at random."""
    generator = np.random.default_rng(3)
    walk = generator.normal(size=rows).cumsum()
    lost = generator.random(rows) < missing
    lost[[0, -1]] = False
    start = datetime(2024, 1, 1)
    lines = [f"{start + timedelta(hours=row)},{'' if lost[row] else walk[row]}" for row in range(rows)]
    path.write_text("\n".join(["date,OT", *lines]) + "\n", encoding="utf-8")
    data = {"dataset": "custom", "path": path, "fill": fill}
    return load_data(Config.model_validate({"data": data, "window": {"seq_len": 48, "pred_len": 12}}))


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6, width=32)), min_size=1, max_size=40), st.sampled_from(FILLS))
def test_many_histories_are_filled_as_one_is(values: list[float | None], how: str) -> None:
    filled = fill_history(pl.DataFrame({"x": values}, schema={"x": pl.Float64}), how)["x"].to_list()
    history_BT = torch.tensor([[np.nan if value is None else value for value in values]] * 2, dtype=torch.float64)
    np.testing.assert_allclose(fill_histories(history_BT, how, torch.zeros(2))[1], filled, rtol=1e-9, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_row_after_the_origin_changes_an_input(data: st.DataObject) -> None:
    """For every fill: the history of a window, and what `predict` would read, are the same whatever comes later."""
    rows, origin = 40, data.draw(st.integers(8, 30))
    cell = st.one_of(st.just(np.nan), st.floats(-100, 100, width=32))
    values = np.array(data.draw(st.lists(cell, min_size=rows, max_size=rows)), dtype=np.float32)
    later = values.copy()
    later[origin:] = data.draw(st.lists(cell, min_size=rows - origin, max_size=rows - origin))
    for how in FILLS:
        histories = [
            fill_histories(torch.from_numpy(one).unfold(0, 8, 1)[: origin - 7], how, torch.zeros(origin - 7))
            for one in (values, later)
        ]
        assert torch.equal(*histories)


def test_only_known_targets_are_scored(tmp_path: Path) -> None:
    data = random_walk(tmp_path / "walk.csv", 0.3)
    scores = score(last_value(12), data, "test", 64)
    squares, errors = [], []
    samples = data.windows("test")
    for number in range(len(samples)):
        batch = samples.batch([number])
        error_H = (batch.history_BT[0, -1] - batch.future_BH[0]).numpy()
        squares += (error_H[~np.isnan(error_H)].astype(np.float64) ** 2).tolist()
        errors += np.abs(error_H[~np.isnan(error_H)]).astype(np.float64).tolist()
    assert scores.sums_4C[0].sum() == len(squares) < len(samples) * 12
    assert scores.mse == pytest.approx(np.mean(squares), rel=1e-6)
    assert scores.mae == pytest.approx(np.mean(errors), rel=1e-6)


@pytest.mark.parametrize("missing", [0.3, 0.6])
def test_the_last_value_errs_on_a_random_walk_as_it_must_and_bands_hold_real_values(
    tmp_path: Path, missing: float
) -> None:
    """One step after the last known value of a walk with unit steps, the expected square is 1 + the age of that value.

    With a share q missing, the age is q / (1 - q) on average. Interpolating with the future would halve it.
    """
    data = random_walk(tmp_path / "walk.csv", missing, rows=40_000)
    unit = float(data.scaler.std_C[0]) ** 2
    collected = ValidationErrors(data)
    score(last_value(12), data, "val", 256, on_errors=collected.add)
    intervals = collected.intervals()
    assert intervals is not None
    held = CoverageCount(intervals, data)
    scores = score(last_value(12), data, "test", 256, on_errors=held.add)
    first_step = scores.sums_4H[1, 0] / scores.sums_4H[0, 0] * unit
    assert first_step == pytest.approx(1 + missing / (1 - missing), rel=0.12)
    coverage = next(one.coverage for one in held.result() if one.level == 80)
    assert coverage == pytest.approx(80, abs=4)


def test_the_linear_baseline_is_fitted_on_known_targets_and_is_the_usual_one_where_all_are_known(
    tmp_path: Path,
) -> None:
    whole = random_walk(tmp_path / "whole.csv", 0.0)
    one_hole = random_walk(tmp_path / "hole.csv", 0.0)
    one_hole.values_KV[0, 1000] = np.nan
    usual, gappy = (
        score(fit_linear(whole), whole, "test", 64).mse,
        score(fit_linear(one_hole), one_hole, "test", 64).mse,
    )
    assert gappy == pytest.approx(usual, rel=0.02)
    assert len(fit_baselines(random_walk(tmp_path / "walk.csv", 0.3))) >= 2


@pytest.mark.parametrize("pieces", [1, 3])
def test_the_loss_is_the_mean_over_known_targets_however_the_batch_is_cut(pieces: int) -> None:
    from timellm_cli.data.batch import Batch
    from timellm_cli.training.optimizer import LOSSES
    from timellm_cli.training.step import _inputs

    generator = torch.Generator().manual_seed(0)
    future_BH, forecast_BH = torch.randn(6, 5, generator=generator), torch.randn(6, 5, generator=generator)
    known_BH = torch.rand(6, 5, generator=generator) > 0.4
    unknown_B = torch.zeros(6, dtype=torch.int64)
    batch = Batch(
        torch.zeros(6, 4), torch.where(known_BH, future_BH, torch.nan), unknown_B, unknown_B, known_BH=known_BH
    )
    _, filled_BH, _, weight_BH = _inputs(batch, unknown_B)
    for loss in LOSSES.values():
        expected = loss(forecast_BH, future_BH, reduction="none")[known_BH].mean()
        parts = zip(*(tensor.chunk(pieces) for tensor in (forecast_BH, filled_BH, weight_BH)), strict=True)
        found = sum((loss(a, b, reduction="none") * weight).mean() / pieces for a, b, weight in parts)
        assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_a_model_trains_and_scores_on_a_table_with_holes(tmp_path: Path) -> None:
    random_walk(tmp_path / "walk.csv", 0.3, rows=400)
    config = config_of("none", tmp_path / "walk.csv", tmp_path, data__fill="linear", train__epochs=1)
    run = train(config)
    (epoch,) = run.of(EpochFinished)
    assert np.isfinite([epoch.train_loss, epoch.val_mse, epoch.test_mse]).all()
    assert all(bool(weight.isfinite().all()) for weight in run.weights.values())
