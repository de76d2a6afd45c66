"""The linear map with what is known of the days ahead: exact numbers on tables whose rule is known."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.untrained import make_config
from timellm_cli.data.ridge import fit_linear
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.evaluation.baselines import fit_baselines
from timellm_cli.evaluation.score import score
from timellm_cli.model.linear_days import LinearWithDays, fit_linear_facts, known_ahead

HOURS = 24 * 98


def write_table(path: Path, values: dict[str, np.ndarray]) -> Path:
    """Hourly rows from 2024-01-01, a Monday, midnight."""
    first = datetime(2024, 1, 1)
    lines = [",".join(["date", *values])]
    for row in range(HOURS):
        lines.append(
            ",".join([f"{first + timedelta(hours=row)}", *(f"{column[row]:.6f}" for column in values.values())])
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def load(path: Path, **changes: object) -> ForecastData:
    common = {"window__seq_len": 24, "window__pred_len": 24, "data__fill": "linear"}
    return load_data(make_config(path, **(common | changes)))


def fit(data: ForecastData) -> LinearWithDays:
    found = fit_linear_facts(data, fit_linear(data))
    assert found is not None
    return found


def validation_mse(data: ForecastData, forecaster: object) -> float:
    return score(forecaster, data, "val", 512).mse  # type: ignore[arg-type]


@pytest.fixture
def promo(tmp_path: Path) -> ForecastData:
    """Two channels of noise. A promo, on a fifth of the hours, adds 8 to the first and takes 4 of the second."""
    generator = np.random.default_rng(5)
    sale = (generator.random(HOURS) < 0.2).astype(float)
    noise = generator.normal(size=(2, HOURS))
    table = {"sale": sale, "left": 50 + 8 * sale + noise[0], "right": 50 - 4 * sale + noise[1]}
    return load(write_table(tmp_path / "promo.csv", table), data__future_columns=("sale",), data__target="right")


def test_the_weights_are_those_that_made_the_table(promo: ForecastData) -> None:
    """In raw units: the column is standardised, and so are the channels."""
    found = fit(promo)
    assert found.weights_CDI.shape == (2, 24, 1), "each channel has weights of its own"
    raw_C2 = found.weights_CDI[:, :, 0].mean(dim=1) / found.scale_F * torch.from_numpy(promo.scaler.std_C)
    assert raw_C2.tolist() == pytest.approx([8, -4], rel=0.05), "less what a ridge takes"


def test_it_is_the_joint_least_squares_fit(promo: ForecastData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against one least squares problem with both parts: the history's weights by step, the column's by slot."""
    monkeypatch.setattr("timellm_cli.model.linear_days._STRENGTHS", (1e-6,))
    samples = promo.windows("train")
    left = samples.batch(range(int(samples.windows_C[0])))
    assert left.ahead is not None
    past_MT = left.history_BT.double()
    mean_M1 = past_MT.mean(dim=1, keepdim=True)
    found = fit(promo)
    column_MH = found.known(left.ahead.line_BH, left.ahead.columns_BHF)[:, :, 0]
    slots_MHD = torch.nn.functional.one_hot(left.ahead.slot_BH, 24).double() * column_MH[:, :, None]
    steps, rows = 24, len(past_MT)
    design = torch.zeros(rows, steps, steps * 24 + 24, dtype=torch.float64)
    for step in range(steps):
        design[:, step, 24 * step : 24 * (step + 1)] = past_MT - mean_M1
    design[:, :, -24:] = slots_MHD
    target = (left.future_BH.double() - mean_M1).flatten()
    joint = torch.linalg.lstsq(design.flatten(0, 1), target, driver="gelsd").solution
    residual = float((design.flatten(0, 1) @ joint - target).square().mean())
    ours = float((found(left) - left.future_BH).square().mean())
    alone = float((found.linear(left) - left.future_BH).square().mean())
    assert ours == pytest.approx(residual, rel=0.03)
    assert alone > 4 * residual
    assert found.weights_CDI[0, :, 0].tolist() == pytest.approx(joint[-24:].tolist(), abs=0.02)


def test_a_fact_of_a_day_is_learned_by_the_time_of_day(tmp_path: Path) -> None:
    """Each Monday morning has 6 more: no history of one day knows the weekday."""
    hour = np.arange(HOURS)
    monday_morning = (hour // 24 % 7 == 0) & (hour % 24 < 12)
    values = 20 + 6 * monday_morning + np.random.default_rng(1).normal(0, 0.1, HOURS)
    data = load(
        write_table(tmp_path / "weeks.csv", {"count": values}),
        ahead__weekday_text="weekday",
        ahead__reader="columns",
        data__target="count",
    )
    found, linear = fit(data), fit_linear(data)
    assert known_ahead(data) == found.weights_CDI.shape[2] == 7
    assert score(found, data, "test", 512).mse < 0.02 < 0.1 < score(linear, data, "test", 512).mse


def test_a_column_that_says_nothing_is_never_worse_in_validation(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    table = {"noise": generator.normal(size=HOURS), "count": generator.normal(size=HOURS)}
    data = load(write_table(tmp_path / "noise.csv", table), data__future_columns=("noise",), data__target="count")
    linear = fit_linear(data)
    with_days = fit_linear_facts(data, linear)
    assert with_days is not None
    assert validation_mse(data, with_days) <= validation_mse(data, linear) * 1.001


def test_the_test_rows_and_the_future_are_never_read(promo: ForecastData) -> None:
    found = fit(promo)
    stop = promo.spans[0].val.stop
    promo.values_KV[:, stop:] += 5
    assert torch.equal(fit(promo).weights_CDI, found.weights_CDI)


def test_absent_targets_and_empty_rows_are_left_out(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    sale = (generator.random(HOURS) < 0.2).astype(float)
    count = 50 + 8 * sale + generator.normal(size=HOURS)
    path = write_table(tmp_path / "holes.csv", {"sale": sale, "count": count})
    lines = path.read_text(encoding="utf-8").splitlines()
    for row in range(100, 1500, 7):
        lines[row] = lines[row].rsplit(",", 1)[0] + ","
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = load(path, data__future_columns=("sale",), data__target="count")
    found = fit(data)
    raw_D = found.weights_CDI[0, :, 0] / found.scale_F * float(data.scaler.std_C[0])
    assert float(raw_D.mean()) == pytest.approx(8, rel=0.05)


def test_the_leaderboard_has_it_where_something_is_known_of_the_days(promo: ForecastData, small_csv: Path) -> None:
    assert [one.name for one in fit_baselines(promo)][-2:] == ["linear", "linear+days"]
    assert fit_baselines(load_data(make_config(small_csv)))[-1].name == "linear"


def test_text_of_other_days_makes_no_baseline(tmp_path: Path) -> None:
    path = write_table(tmp_path / "weeks.csv", {"count": np.random.default_rng(1).normal(size=HOURS)})
    data = load(path, ahead__weekday_text="weekday", ahead__reader="columns", data__target="count", ahead__shuffle=True)
    assert known_ahead(data) == 0
    assert fit_linear_facts(data, fit_linear(data)) is None
