"""Example forecasts for the report: a model's best, median and worst window."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from timellm_cli.data.windows import ForecastData
from timellm_cli.evaluation.bands import Intervals
from timellm_cli.evaluation.score import Forecaster, Scores

Rank = Literal["best", "median", "worst"]


@dataclass(frozen=True)
class Example:
    """One window with its forecast, in the CSV's units.

    `mse` is standardised. `first` and `last` are the dates of the forecast. `bands` are half-widths by level in
    percent, empty for a model without bands.
    """

    rank: Rank
    channel: str
    mse: float
    first: str
    last: str
    history: tuple[float, ...]
    future: tuple[float, ...]
    forecast: tuple[float, ...]
    bands: dict[int, tuple[float, ...]]


def rank_windows(scores: Scores) -> dict[Rank, int]:
    """Places in `window_mse_W` of the lowest, the middle (the lower of two) and the highest MSE over the horizon."""
    order = np.argsort(scores.window_mse_W, kind="stable")
    order = order[: int(np.isfinite(scores.window_mse_W).sum()) or len(order)]
    picked: dict[Rank, int] = {"best": 0, "median": (len(order) - 1) // 2, "worst": len(order) - 1}
    return {rank: int(order[position]) for rank, position in picked.items()}


def make_examples(
    forecaster: Forecaster, data: ForecastData, split: str, scores: Scores, intervals: Intervals | None = None
) -> tuple[Example, ...]:
    """Forecast the best, the median and the worst window of a split. `scores` are the forecaster's on that split."""
    samples = data.windows(split)
    ranked = rank_windows(scores)
    firsts = (samples.windows_C.cumsum(0) - samples.windows_C).tolist()
    found = map(scores.find, ranked.values())
    batch = samples.batch([firsts[channel] + window for channel, window in found])
    with torch.inference_mode():
        forecast_BH = forecaster(batch).double().cpu()
    history_BT, future_BH, forecast_BH = (
        in_units_of_the_csv(data, batch.channel_B, values)
        for values in (batch.history_BT, batch.future_BH, forecast_BH)
    )
    channels = [data.table.channels[channel] for channel in batch.channel_B]
    bands: dict[int, Tensor] = {}
    if intervals is not None:
        channel_B = intervals.rows_of(data.table)[batch.channel_B]
        std_B1 = torch.from_numpy(data.scaler.std_C)[batch.channel_B, None]
        bands = {level: intervals.around(level, batch.history_BT, channel_B) * std_B1 for level in intervals.levels}
    examples = []
    for row, (rank, place) in enumerate(ranked.items()):
        first = int(batch.start_B[row]) + history_BT.shape[1]
        examples.append(
            Example(
                rank=rank,
                channel=channels[row],
                mse=float(scores.window_mse_W[place]),
                first=data.table.style.write(data.table.stamps[first]),
                last=data.table.style.write(data.table.stamps[first + future_BH.shape[1] - 1]),
                history=tuple(history_BT[row].tolist()),
                future=tuple(future_BH[row].tolist()),
                forecast=tuple(forecast_BH[row].tolist()),
                bands={level: tuple(half_BH[row].tolist()) for level, half_BH in bands.items()},
            )
        )
    return tuple(examples)


def in_units_of_the_csv(data: ForecastData, channel_B: Tensor, values_BX: Tensor) -> Tensor:
    """Standardised values of these channels in the CSV's units, in float64 on the CPU."""
    mean_B1 = torch.from_numpy(data.scaler.mean_C)[channel_B, None]
    std_B1 = torch.from_numpy(data.scaler.std_C)[channel_B, None]
    return values_BX.double().cpu() * std_B1 + mean_B1
