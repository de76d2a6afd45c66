"""Forecasts to look at: the windows that a model forecasts best, middling and worst."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from timellm_cli.data.cadence import show
from timellm_cli.data.windows import ForecastData
from timellm_cli.evaluation.bands import Intervals
from timellm_cli.evaluation.score import Forecaster, Scores

Rank = Literal["best", "median", "worst"]


@dataclass(frozen=True)
class Example:
    """One window in the CSV's units, with its forecast; `mse` is standardised. `first` and `last` date the forecast.

    `bands` are half-widths by level in percent; none for a model without bands.
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


def rank_windows(scores: Scores) -> dict[Rank, tuple[int, int]]:
    """Channel's place and window of lowest, middle (the lower of two) and highest MSE over the horizon."""
    order = np.argsort(scores.window_mse_CW, axis=None, kind="stable")
    picked: dict[Rank, int] = {"best": 0, "median": (len(order) - 1) // 2, "worst": len(order) - 1}
    return {rank: divmod(int(order[place]), scores.windows) for rank, place in picked.items()}


def show_examples(
    forecaster: Forecaster, data: ForecastData, split: str, scores: Scores, intervals: Intervals | None = None
) -> tuple[Example, ...]:
    """The model's own best, median and worst window. `scores` are its scores on that split."""
    samples = data.windows(split)
    ranked = rank_windows(scores)
    windows = [samples[place * samples.windows + window] for place, window in ranked.values()]
    with torch.inference_mode():
        forecast_BH = forecaster(windows).double().cpu().numpy()
    examples = []
    for (rank, (place, number)), window, forecast_H in zip(ranked.items(), windows, forecast_BH, strict=True):
        mean, std = data.scaler.mean_C[window.channel], data.scaler.std_C[window.channel]
        begin = window.start + len(window.history_T)
        dates = data.table.timestamps[begin : begin + len(forecast_H)]
        examples.append(
            Example(
                rank=rank,
                channel=data.table.columns[window.channel],
                mse=float(scores.window_mse_CW[place, number]),
                first=show(dates[0]),
                last=show(dates[-1]),
                history=tuple((window.history_T.double().numpy() * std + mean).tolist()),
                future=tuple((window.future_H.double().numpy() * std + mean).tolist()),
                forecast=tuple((forecast_H * std + mean).tolist()),
                bands=_bands(intervals, data.table.columns[window.channel], window.history_T, float(std)),
            )
        )
    return tuple(examples)


def _bands(intervals: Intervals | None, channel: str, history_T: Tensor, std: float) -> dict[int, tuple[float, ...]]:
    if intervals is None:
        return {}
    place = [intervals.channels.index(channel)]
    halves = {level: intervals.around(level, history_T[None], place)[0] * std for level in intervals.levels}
    return {level: tuple(half_H.tolist()) for level, half_H in halves.items()}
