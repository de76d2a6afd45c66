"""A model with a fitted shortcut and a day map starts from the closed form with what is known ahead."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.planning.day_table import write_table
from timellm_cli.config import Config
from timellm_cli.data.ahead import BESIDE, NEW, TrainedChannels
from timellm_cli.data.ridge import fit_linear
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.evaluation.score import score
from timellm_cli.model.closed_form import start_from_closed_form
from timellm_cli.model.day_map import DayMap, DayMapSizes
from timellm_cli.model.day_reader import add_day_map
from timellm_cli.model.linear_days import fit_linear_days, fit_linear_facts
from timellm_cli.model.load import load_model
from timellm_cli.model.runner import Runner

CPU = torch.device("cpu")
FITTED = {"model.shortcut": "fitted"}


def start(config: Config) -> tuple[Runner, ForecastData]:
    torch.manual_seed(1)
    runner, data = load_model(config, CPU), load_data(config)
    add_day_map(runner, data, config)
    start_from_closed_form(runner, data)
    return runner, data


@pytest.fixture
def config(tmp_path: Path, tiny_llm: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Its days are read by a tiny LLM; values depend on weekday, event and sale, by the time of day."""
    monkeypatch.setenv("TIMELLM_CACHE", str(tmp_path))
    config = write_table(tmp_path, tiny_llm, "llm").with_values(FITTED)
    header, *rows = (tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()
    torch.manual_seed(2)
    for row, noise in enumerate(torch.randn(len(rows), 2).tolist()):
        day, slot = divmod(row, 4)
        effect = 3 * (day % 7 == 2) * slot + (row % 7) - 4 * (day % 5 == 0) * (slot == 1)
        date, sale, _ = rows[row].split(",")
        rows[row] = f"{date},{sale},{20 + effect + noise[0]},{30 - 2 * effect + noise[1]}"
    (tmp_path / "table.csv").write_text("\n".join([f"{header},other", *rows, ""]), encoding="utf-8")
    return config


@pytest.mark.parametrize("shuffle", [False, True], ids=["its own lines", "lines of other days"])
def test_epoch_0_is_the_closed_form_that_reads_what_an_llm_makes_of_the_lines(config: Config, shuffle: bool) -> None:
    runner, data = start(config.with_values({"ahead.shuffle": shuffle}))
    day_map = runner.model.day_map
    assert day_map is not None
    linear = fit_linear(data)
    fit = fit_linear_days(data, linear, day_map.lines_LK)
    assert fit is not None
    batch = data.windows("test").batch(range(20))
    torch.testing.assert_close(runner(batch).double(), fit(batch), rtol=1e-4, atol=1e-4)
    if not shuffle:
        assert score(runner, data, "val", 64).mse < 0.5 * score(linear, data, "val", 64).mse


def test_epoch_0_of_columns_is_the_baseline_of_eval(config: Config) -> None:
    runner, data = start(config.with_values({"ahead.reader": "columns", "ahead.llm": None}))
    baseline = fit_linear_facts(data, fit_linear(data))
    assert baseline is not None
    assert len(baseline.weights_CDI) == 2, "each channel has weights of its own"
    batch = data.windows("test").batch(range(len(data.windows("test"))))
    torch.testing.assert_close(runner(batch).double(), baseline(batch), rtol=1e-4, atol=1e-4)


def test_without_a_fitted_shortcut_the_day_map_starts_from_nothing(config: Config) -> None:
    config = config.with_values({"model.shortcut": "linear"})
    runner, data = load_model(config, CPU), load_data(config)
    add_day_map(runner, data, config)
    batch = data.windows("test").batch(range(4))
    assert torch.equal(runner(batch), runner.without_day_map(batch))


def test_a_channel_that_was_not_trained_takes_the_mean_over_channels(config: Config) -> None:
    runner, data = start(config)
    day_map = runner.model.day_map
    assert day_map is not None
    batch = data.windows("test").batch([0, 1])
    assert batch.ahead is not None
    line_BH, slot_BH, _, columns_BHF, _ = batch.ahead.tensors
    added = [day_map.start(line_BH, slot_BH, columns_BHF, torch.tensor([number, number])) for number in (0, 1, -1)]
    assert not torch.allclose(added[0], added[1])
    torch.testing.assert_close((added[0] + added[1]) / 2, added[2])


def test_channels_are_known_by_their_names() -> None:
    trained = TrainedChannels.of(("a", "b"), ("x", "y"), "M")
    assert trained.numbers(("a", "b"), ("y", "z", "x")).tolist() == [1, -1, 0, 3, -1, 2]
    target = TrainedChannels.of(("a", "b"), ("x", "y"), "MS")
    assert target.numbers(("a", "b"), ("x", "y")).tolist() == [BESIDE, BESIDE, 0, 1]
    assert target.numbers(("c", "b"), ("x", "new")).tolist() == [BESIDE, BESIDE, 0, NEW]


def test_a_column_beside_the_target_gets_nothing_of_the_targets_weights() -> None:
    day_map = DayMap(DayMapSizes(slots=4, vector=0, mixes=0, columns=1, rank=2, seq_len=28, channels=1))
    day_map.start_from(torch.ones(1, 4, 1))
    place_BH = torch.zeros(3, 2, dtype=torch.long)
    added_BH = day_map.start(place_BH, place_BH, torch.ones(3, 2, 1), torch.tensor([0, NEW, BESIDE]))
    assert added_BH is not None and added_BH.tolist() == [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize("channels", [1, 2, 40_000], ids=["one", "two", "more than have weights of their own"])
def test_weights_have_a_row_for_each_channel_or_one_for_all(channels: int) -> None:
    sizes = DayMapSizes(slots=4, vector=10, mixes=10, columns=1, rank=2, seq_len=28, channels=channels)
    day_map = DayMap(sizes)
    torch.nn.init.normal_(day_map.columns.mix)  # type: ignore[union-attr]
    shared = torch.randn(1, 4, 11)
    day_map.start_from(shared)
    assert len(day_map.start_CDK) == sizes.rows == (3 if channels == 2 else 1)
    for row in range(sizes.rows):
        torch.testing.assert_close(day_map.start_CDK[row], shared[0, :, :10])
        torch.testing.assert_close(day_map.start_CDF[row], shared[0, :, 10:])


def test_another_training_takes_the_rows_of_its_own_channels() -> None:
    day_map = DayMap(DayMapSizes(slots=4, vector=3, mixes=3, columns=0, rank=2, seq_len=28, channels=2))
    weights_CDI = torch.randn(2, 4, 3)
    day_map.start_from(weights_CDI)
    day_map.take_channels(torch.tensor([1, -1, 0]))
    mean = weights_CDI.mean(dim=0)
    torch.testing.assert_close(day_map.start_CDK[:3], torch.stack([weights_CDI[1], mean, weights_CDI[0]]))
    assert day_map.sizes == replace(day_map.sizes, channels=3)
    assert day_map.sizes.rows == 4
