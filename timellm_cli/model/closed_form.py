"""Where training starts from with a fitted shortcut: the linear map in closed form, with what is known ahead."""

import torch

from timellm_cli.data.ridge import fit_linear
from timellm_cli.data.windows import ForecastData
from timellm_cli.model.linear_days import fit_linear_days
from timellm_cli.model.runner import Runner


def start_from_closed_form(runner: Runner, data: ForecastData) -> None:
    """Let the model forecast what the closed form does that is fitted to the training rows.

    With a day map, the closed form reads what the map reads: facts or an LLM's vectors after their directions, and
    columns. Validation chooses it, and never finds it worse than the linear map alone.
    """
    linear, day_map = fit_linear(data), runner.model.day_map
    if day_map is not None:
        known_LK = day_map.lines_LK.cpu() if day_map.sizes.mixes else torch.zeros(1, 0)
        with_days = fit_linear_days(data, linear, known_LK)
        if with_days is not None:
            day_map.start_from(with_days.weights_CDI)
            linear = with_days.linear
    runner.model.start_from(linear.weights_TH)
