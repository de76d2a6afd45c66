"""Which scaler a training from a checkpoint goes on with: the checkpoint's or a new one, scored on the same windows."""

from typing import Literal

from rich.text import Text

from timellm_cli.console import doing, err, print_note, say
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.evaluation.score import Scores, score
from timellm_cli.model.runner import Runner
from timellm_cli.report.tables import line_up
from timellm_cli.training.checkpoint import Checkpoint
from timellm_cli.training.interruption import stopped_before_training
from timellm_cli.training.warm_start import seen_before

ScalerChoice = Literal["auto", "old", "new"]
_WINDOWS = 256
"""Windows of each channel that both scalers are scored on."""


def choose_scaler(
    data: ForecastData, checkpoint: Checkpoint, runner: Runner, choice: ScalerChoice, batch: int
) -> ForecastData:
    """The data with the scaler to train with. `data` has a new one, fitted on its own training rows.

    Both are scored with the untrained model on the same validation windows, in units of the checkpoint's deviations;
    'auto' takes the one with the lower error. Other columns or series than the checkpoint's have a new scaler.
    """
    for split in ("val", "test"):
        if note := seen_before(checkpoint.rows["train"], data.identity[split], split):
            print_note(note)
            break
    if (data.table.columns, data.table.series.ids) != (checkpoint.columns, checkpoint.ids):
        say("The data have other columns than the checkpoint's: their own scaler is used")
        return data
    with stopped_before_training(), doing("Scoring the checkpoint with its scaler and with a new one"):
        old = load_data(data.config, checkpoint.scaler, checkpoint.columns, checkpoint.ids)
        limit = min(_WINDOWS, data.windows("val").windows)
        scores = {name: score(runner, one, "val", batch, limit=limit) for name, one in (("old", old), ("new", data))}
    errors = {name: _error(one, old) for name, one in scores.items()}
    chosen = choice if choice != "auto" else min(("old", "new"), key=lambda name: errors[name])
    rows = [
        (Text(f"{name} scaler"), Text(f"{errors[name]:.4f}"), Text("trains with it" if name == chosen else ""))
        for name in ("old", "new")
    ]
    say(f"Before training, MSE of {limit:,} validation windows of each channel, in the checkpoint's deviations:")
    err.print(line_up(rows, "left", "right", "left"))
    return old if chosen == "old" else data


def _error(scores: Scores, old: ForecastData) -> float:
    """Mean squared error over channels, each in units of the checkpoint's deviation."""
    count = len(scores.channels)
    std_C = old.scaler.std_C[-count:]
    return sum(scores.of_channel(place).mse_raw / float(std_C[place]) ** 2 for place in range(count)) / count
