"""What text and columns are worth: the arms, their intervals, and the sentences."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.untrained import make_config
from timellm_cli.config import Config
from timellm_cli.data.windows import load_data
from timellm_cli.evaluation.arms import Arm, ArmTable, arm_of, compare_arms, judge_arms
from timellm_cli.evaluation.day_errors import DayCount, DayErrors

DAYS = 140
TEXT = {"holiday_text": "NZ-AUK"}


def config_of(**ahead: object) -> Config:
    config = make_config(Path("unread.csv"))
    return config.with_values({f"ahead.{key}": value for key, value in ahead.items()})


CONFIGS: dict[Arm, Config] = {
    "A": config_of(),
    "B": config_of(**TEXT, reader="columns"),
    "C": config_of(**TEXT),
    "D": config_of(**TEXT, shuffle=True),
    "E": config_of(**TEXT, llm_weights="random"),
}


def errors_of(level: float, on_events: float, seed: int, every: int = 5) -> DayErrors:
    """Two channels; each `every`th day has an event. Errors scatter a little from day to day."""
    scatter_CD = np.random.default_rng([seed, int(10 * level), int(10 * on_events)]).normal(0, 0.02, (2, DAYS))
    special_CD = np.tile(np.arange(DAYS) % every == 0, (2, 1))
    days = tuple(date(2024, 1, 1) + timedelta(days=day) for day in range(DAYS))
    squared_CD = 24 * (np.where(special_CD, on_events, level) + scatter_CD)
    return DayErrors(days, squared_CD, np.full((2, DAYS), 24.0), special_CD)


def table_of(levels: dict[Arm, tuple[float, float]], seeds: int = 3, every: int = 5) -> ArmTable:
    errors = {arm: [errors_of(*level, seed, every) for seed in range(seeds)] for arm, level in levels.items()}
    table = compare_arms(list(levels), CONFIGS, errors)  # type: ignore[arg-type]
    assert table is not None
    return table


def test_a_configuration_is_one_arm() -> None:
    assert {arm: arm_of(config) for arm, config in CONFIGS.items()} == {arm: arm for arm in CONFIGS}
    assert arm_of(CONFIGS["A"].with_values({"data.future_columns": ("promo",)})) == "B"


def test_event_days_and_ordinary_days_are_apart() -> None:
    table = table_of({"A": (1.0, 4.0), "C": (1.0, 1.0)})
    assert table.days == {"all": 140, "event": 28, "ordinary": 112}
    assert table.mse["A"]["event"] == pytest.approx(4, abs=0.02)
    assert table.mse["A"]["all"] == pytest.approx((28 * 4 + 112) / 140, abs=0.02)
    event, ordinary = table.of("C", "A", "event"), table.of("C", "A", "ordinary")
    assert event is not None
    assert ordinary is not None
    assert (event.outcome, ordinary.outcome) == ("lower", "same")
    assert event.low < event.seeds.mean < event.high < -2.9
    assert event.blocks == 20, "one block of seven days has no event"


def test_few_event_days_or_one_seed_leave_it_open() -> None:
    few = table_of({"A": (1.0, 4.0), "C": (1.0, 1.0)}, every=10)
    assert few.days["event"] == 14
    assert few.of("C", "A", "event").outcome == "open"  # type: ignore[union-attr]
    assert few.of("C", "A").outcome == "lower"  # type: ignore[union-attr]
    assert table_of({"A": (1.0, 4.0), "C": (1.0, 1.0)}, seeds=1).of("C", "A").outcome == "open"  # type: ignore[union-attr]


def test_the_sentences_say_what_text_is_worth_whether_language_did_it_and_whether_columns_would_do() -> None:
    levels: dict[Arm, tuple[float, float]] = {
        "A": (1.0, 4.0), "B": (0.9, 1.0), "C": (0.9, 1.0), "D": (1.0, 4.0), "E": (0.95, 3.0),
    }  # fmt: skip
    said = [sentence for sentence, _ in judge_arms(table_of(levels))]
    assert said[0].startswith("The text of the days helped: the MSE is 42.")
    assert "On 28 event days it changes by -7" in said[0]
    assert said[2] == "Language: read by a random LLM, the MSE is +47.8% against that by the pretrained one: higher."
    assert said[3] == "Text of other days: the MSE is +0.0% against that without text: not measurably different."
    assert (
        said[4] == "Columns would do: with text, the MSE is +0.0% against that with columns: not measurably different."
    )


def test_models_with_another_numeric_model_are_not_compared() -> None:
    other = CONFIGS["C"].with_values({"model.d_model": 4})
    errors = {"A": [errors_of(1, 4, 0)], "C": [errors_of(1, 1, 0)]}
    assert compare_arms(["A", "C"], {"A": CONFIGS["A"], "C": other}, errors) is None


def test_folds_are_joined_day_by_day() -> None:
    parts = [errors_of(1, 4, 0), errors_of(1, 4, 1)]
    joined = DayErrors.joined(parts)
    assert joined.squared_CD.shape == (2, 2 * DAYS)
    assert joined.special_CD is not None
    assert len(joined.days) == joined.special_CD.shape[1] == 2 * DAYS


def test_the_errors_of_a_fold_are_in_the_units_of_the_first(small_csv: Path) -> None:
    """As the leaderboard's: an error of one deviation is half of one in units twice as large."""
    data = load_data(make_config(small_csv))
    batch, std_C = data.windows("test").batch([0, 1]), data.scaler.std_C
    own, other = DayCount(data), DayCount(data, 2 * std_C)
    for count in (own, other):
        count.add(batch, torch.ones_like(batch.future_BH))
    assert own.result().squared_CD.sum() == own.result().known_CD.sum() == batch.future_BH.numel()
    assert other.result().squared_CD == pytest.approx(own.result().squared_CD / 4)
