"""A forecast of one table: every channel of it, in one go."""

from collections.abc import Callable
from math import ceil

from timellm_cli.data.forecast_input import ForecastInput
from timellm_cli.data.scale import Floats, require_computable
from timellm_cli.forecasting.dated_forecast import Shape, date_forecast
from timellm_cli.forecasting.known_ahead import KnownAhead
from timellm_cli.model.runner import Runner, gpu_memory_errors
from timellm_cli.report.forecast import Forecast
from timellm_cli.training.checkpoint import Checkpoint
from timellm_cli.units import format_count

_FEW_CALLS = 3
"""So many calls of the model are faster without recording a CUDA graph first."""


def require_numbers_of(given: ForecastInput, trained: Checkpoint, name: str) -> Floats:
    """The history (T, C), standardised. Raises DataError for values that are too large; `name` is that of the file."""
    history_TC = trained.scaler.standardise(given.table.values)
    for channel, column in enumerate(given.table.columns):
        require_computable(history_TC[:, channel], column, name)
    return history_TC


def forecast_table(
    given: ForecastInput,
    trained: Checkpoint,
    runner: Runner,
    batch_size: int,
    history_TC: Floats,
    steps: int,
    shape: Shape,
    known: KnownAhead | None = None,
    on_note: Callable[[str], None] = lambda _: None,
) -> Forecast:
    """The forecast of `steps` rows after `given`, whose standardised history is `history_TC`; in the input's units.

    `known` is what is known of the steps, for a model that reads it. Raises ModelError where the GPU's memory is too
    small.
    """
    calls = ceil(steps / trained.config.window.pred_len) * ceil(history_TC.shape[1] / batch_size)
    with gpu_memory_errors():
        ahead = known.read(runner, [given], on_note=on_note) if known else None
        future_HC = runner.roll_forward(history_TC, steps, batch_size, ahead=ahead, capture=calls > _FEW_CALLS)
    return date_forecast(given, trained, trained.scaler, history_TC, future_HC, shape)


def notes_on(pred_len: int, steps: int, shape: Shape) -> list[str]:
    """What a reader must know of a forecast that is a sum, or that goes beyond `pred_len` steps."""
    notes = []
    if shape.is_sum:
        notes.append(f"the row is the sum of {format_count(steps, 'step')}; its date is that of the last one")
    if steps > pred_len:
        bands = f"; bands end with step {pred_len}, as only steps up to it were validated" if shape.levels else ""
        notes.append(
            f"the model forecasts {pred_len} steps at a time (pred_len): from step {pred_len + 1} to {steps} it reads "
            f"its own forecasts, and errors add up{bands}"
        )
    return notes
