"""The one code path that scores: models and baselines, validation while training, and `timellm eval`.

Every window of a split counts and none is dropped, so a score does not depend on the batch size (the original drops the
last, short batch of the test set). Errors are summed in float64, apart by channel and by step of the horizon; every
figure is made of those sums.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from timellm_cli.data.batch import Batch
from timellm_cli.data.scale import Floats
from timellm_cli.data.windows import ForecastData

Forecaster = Callable[[Batch], Tensor]
"""From a batch of B samples to their forecasts, B x H, standardised. It may read the histories, never the futures."""


@dataclass(frozen=True)
class Figures:
    """Mean errors over some channels and some steps, in standardised units."""

    mse: float
    mae: float


@dataclass(frozen=True)
class RawFigures:
    """Mean errors of one channel, in the CSV's units (`mse` in their square)."""

    mse: float
    rmse: float
    mae: float


@dataclass(frozen=True)
class Part:
    """Steps `first` to `last` of the horizon, both included, counted from 1."""

    first: int
    last: int


@dataclass(frozen=True, eq=False)
class Scores:
    """Sums of three errors in standardised units, (C, H), over `windows` windows of each channel.

    The errors are the squared, the absolute and Huber's: half the square up to one deviation, linear beyond.
    `channels` names the scored channels (in MS the target alone); `std_C` is their scale, in the CSV's units.
    `window_mse_CW` and `window_mae_CW` are the mean errors of each of the W windows over its horizon.
    """

    channels: tuple[str, ...]
    windows: int
    squared_CH: Floats
    absolute_CH: Floats
    huber_CH: Floats
    std_C: Floats
    window_mse_CW: Floats
    window_mae_CW: Floats

    @property
    def samples(self) -> int:
        """How many samples were scored: windows x channels."""
        return self.windows * len(self.channels)

    @property
    def pred_len(self) -> int:
        """Steps of the horizon."""
        return int(self.squared_CH.shape[1])

    @property
    def mse(self) -> float:
        """Mean squared error over all samples and steps, in standardised units, as papers report it."""
        return self._mean(slice(None), slice(None)).mse

    @property
    def mae(self) -> float:
        """Mean absolute error over all samples and steps, in standardised units, as papers report it."""
        return self._mean(slice(None), slice(None)).mae

    def loss(self, kind: str) -> float:
        """Mean loss of a kind that training minimises ('mse', 'mae' or 'huber') over all samples and steps."""
        sums_CH = {"mse": self.squared_CH, "mae": self.absolute_CH, "huber": self.huber_CH}[kind]
        return float(sums_CH.mean() / self.windows)

    @property
    def raw(self) -> RawFigures:
        """Errors over all channels in the CSV's units; they mean something only where the channels share a unit."""
        mean_square = (self.squared_CH.mean(axis=1) * self.std_C**2).mean() / self.windows
        mean_absolute = (self.absolute_CH.mean(axis=1) * self.std_C).mean() / self.windows
        return RawFigures(float(mean_square), float(np.sqrt(mean_square)), float(mean_absolute))

    def of_channel(self, channel: int) -> Figures:
        """Errors of one channel in standardised units."""
        return self._mean(channel, slice(None))

    def raw_of_channel(self, channel: int) -> RawFigures:
        """Errors of one channel in the CSV's units: standardised error x the channel's standard deviation."""
        figures, std = self.of_channel(channel), float(self.std_C[channel])
        return RawFigures(figures.mse * std**2, float(np.sqrt(figures.mse)) * std, figures.mae * std)

    def of_part(self, part: Part) -> Figures:
        """Errors over a part of the horizon, all channels together, in standardised units."""
        return self._mean(slice(None), slice(part.first - 1, part.last))

    def of_steps(self) -> list[Figures]:
        """Errors of each step of the horizon, all channels together, in standardised units."""
        return [self._mean(slice(None), step) for step in range(self.pred_len)]

    def without_last(self, windows: int) -> Figures:
        """Errors over all windows but the last so many of each channel, as if these had not been scored."""
        kept = slice(self.windows - windows)
        return Figures(float(self.window_mse_CW[:, kept].mean()), float(self.window_mae_CW[:, kept].mean()))

    def _mean(self, channels: int | slice, steps: int | slice) -> Figures:
        return Figures(
            mse=float(self.squared_CH[channels, steps].mean() / self.windows),
            mae=float(self.absolute_CH[channels, steps].mean() / self.windows),
        )


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """The mean errors of several models on the same windows. Errors are averaged, not forecasts."""
    return replace(
        scores[0],
        squared_CH=np.mean([one.squared_CH for one in scores], axis=0),
        absolute_CH=np.mean([one.absolute_CH for one in scores], axis=0),
        huber_CH=np.mean([one.huber_CH for one in scores], axis=0),
        window_mse_CW=np.mean([one.window_mse_CW for one in scores], axis=0),
        window_mae_CW=np.mean([one.window_mae_CW for one in scores], axis=0),
    )


def parts_of(pred_len: int, parts: int = 4) -> list[Part]:
    """The horizon cut into as equal parts as it allows; fewer parts where it has fewer steps."""
    parts = min(parts, pred_len)
    borders = [round(pred_len * part / parts) for part in range(parts + 1)]
    return [Part(start + 1, stop) for start, stop in pairwise(borders)]


def scored_windows(data: ForecastData, split: str, limit: int | None = None) -> int:
    """How many windows of each channel `score` goes through."""
    windows = data.windows(split).windows
    return windows if limit is None else min(limit, windows)


def score(
    forecaster: Forecaster,
    data: ForecastData,
    split: str,
    batch_size: int,
    *,
    limit: int | None = None,
    on_batch: Callable[[int], None] | None = None,
    on_errors: Callable[[Batch, Tensor], None] | None = None,
) -> Scores:
    """Score a forecaster on every window of a split, or on the first `limit` windows of every channel.

    After each batch, `on_errors` is called with the batch and its errors (B x H, forecast less future, standardised),
    and `on_batch` with its number of samples. Samples come channel by channel. No gradients are computed.
    """
    samples = data.windows(split)
    windows = scored_windows(data, split, limit)
    window_means: list[Tensor] = []
    sums_3CH = torch.zeros(3, samples.channels, data.config.window.pred_len, dtype=torch.float64)
    with torch.inference_mode():
        for number_B in torch.arange(samples.channels * windows).split(batch_size):
            channel_B = number_B // windows
            batch = samples.batch((channel_B * samples.windows + number_B % windows).tolist())
            forecast_BH = forecaster(batch).double()
            future_BH = batch.future_BH.to(forecast_BH)
            error_BH = forecast_BH - future_BH
            errors_3BH = torch.stack([error_BH.square(), error_BH.abs(), huber_loss(forecast_BH, future_BH, "none")])
            sums_3CH = sums_3CH.to(error_BH.device).index_add_(1, channel_B.to(error_BH.device), errors_3BH)
            window_means.append(errors_3BH[:2].mean(dim=2))
            if on_errors is not None:
                on_errors(batch, error_BH)
            if on_batch is not None:
                on_batch(len(batch))
    squared_CH, absolute_CH, huber_CH = sums_3CH.cpu().numpy()
    window_mse_CW, window_mae_CW = torch.cat(window_means, dim=1).cpu().numpy().reshape(2, samples.channels, windows)
    return Scores(
        channels=data.table.columns[-samples.channels :],
        windows=windows,
        squared_CH=squared_CH,
        absolute_CH=absolute_CH,
        huber_CH=huber_CH,
        std_C=data.scaler.std_C[-samples.channels :],
        window_mse_CW=window_mse_CW,
        window_mae_CW=window_mae_CW,
    )
