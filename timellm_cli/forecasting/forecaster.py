"""A trained model in memory that forecasts pandas frames: what `timellm predict` does with files, for Python."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import pandas as pd

from timellm_cli.config import Config
from timellm_cli.data.columns import date_columns
from timellm_cli.data.forecast_input import continue_rows, read_known_rows
from timellm_cli.data.rows import Rows
from timellm_cli.errors import ConfigError
from timellm_cli.evaluation.bands import choose_levels
from timellm_cli.fetching.fetch import SILENT, Reporter
from timellm_cli.forecasting.dated_forecast import Shape
from timellm_cli.forecasting.frames import NAME, FrameStyle, frame_bytes, to_pandas
from timellm_cli.forecasting.known_ahead import KnownAhead, know_ahead
from timellm_cli.forecasting.one_table import forecast_table, notes_on, require_numbers_of
from timellm_cli.forecasting.open_checkpoint import config_for, open_checkpoint
from timellm_cli.forecasting.panel import PanelForecasts, Wanted, none_of
from timellm_cli.model.runner import Runner, gpu_memory_errors
from timellm_cli.planning.hardware import look_at_machine
from timellm_cli.report.forecast_file import Layout
from timellm_cli.training.checkpoint import Checkpoint, load_checkpoint


class Forecaster:
    """A trained model, loaded once. `load` makes one; `predict` may then be called as often as wanted.

    `notes` are sentences about how the model was loaded. It prints nothing. One call at a time: it is not safe to share
    between threads.
    """

    def __init__(
        self,
        checkpoint: Path,
        trained: Checkpoint,
        config: Config,
        runner: Runner,
        batch_size: int,
        notes: Sequence[str] = (),
    ) -> None:
        self._checkpoint, self._trained, self._config = checkpoint, trained, config
        self._runner, self._batch_size = runner, batch_size
        self.notes = tuple(notes)

    @classmethod
    def load(
        cls,
        checkpoint: str | PathLike[str],
        *,
        device: str = "auto",
        llm: str | None = None,
        offline: bool = False,
        changes: Mapping[str, Any] | None = None,
        on_note: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """Load a checkpoint, such as `checkpoints/RUN/best.pt`, and its LLM.

        `device` is 'auto', 'cpu' or 'cuda'. `llm` is the folder of the checkpoint's LLM where it has moved. With
        `offline` nothing is downloaded. `changes` are values of configuration keys that say how to compute or how to
        read, such as `{"data.fill": "linear"}`. `on_note` gets each sentence about the loading while it is done.

        Raises ModelError for the checkpoint, its LLM and the hardware, ConfigError for a value that is not possible.
        """
        notes: list[str] = []

        def note(sentence: str) -> None:
            notes.append(sentence)
            on_note(sentence)

        path = Path(checkpoint)
        if device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"device '{device}' is not known", "devices are auto, cpu and cuda")
        trained = load_checkpoint(path)
        config = config_for(trained, device, None, llm, changes)
        reporter = Reporter(on_note=note, progress=SILENT.progress)
        runner, batch_size = open_checkpoint(trained, config, look_at_machine(), offline, reporter, note)
        return cls(path, trained, config, runner, batch_size, notes)

    @property
    def columns(self) -> tuple[str, ...]:
        """The value columns that a frame needs, target last."""
        return self._trained.columns

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels of bands, in percent, that the checkpoint has; empty where it has none."""
        return self._trained.intervals.levels if self._trained.intervals else ()

    @property
    def seq_len(self) -> int:
        """Rows of history that the model reads."""
        return self._config.window.seq_len

    @property
    def pred_len(self) -> int:
        """Rows that the model forecasts at a time."""
        return self._config.window.pred_len

    def predict(
        self,
        frame: pd.DataFrame,
        *,
        levels: Sequence[int] = (),
        steps: int | None = None,
        at: str | None = None,
        lowest: float | None = None,
        is_sum: bool = False,
        strict: bool = False,
    ) -> pd.DataFrame:
        """Forecast what follows the last row of a frame, or of each of its series, in the frame's units.

        The frame has the columns of the table that the model was trained on: wide (a column for each channel) or long
        (a column of ids). The timestamps are a column or the index. At least `seq_len` rows of each series are needed.

        `levels` are percents, such as `[80, 95]`: each adds the columns `NAME-lo-80` and `NAME-hi-80`. `steps` are the
        rows to forecast (`pred_len`), `at` is the timestamp of the last known row (the last one), `lowest` is the least
        value that is possible, with `is_sum` the sum of all steps is forecast.

        Returns a frame in the form of the input, with the figures that `timellm predict` writes. Its `attrs` hold
        `skipped`, why series were left out, by id, and `notes`, sentences on the forecast. With `strict` the first such
        series raises.

        Raises DataError for the frame, ConfigError for levels that the checkpoint does not have, ModelError where the
        memory is too small.
        """
        wanted = self._wanted(levels, steps, at, lowest, is_sum, strict)
        config = self._config
        content, style = frame_bytes(frame, None if config.data.is_wide else config.data.date_column)
        is_panel = self._trained.ids != ("",)
        rows = read_known_rows(
            content, config, self._trained.columns, self._trained.date_format, is_panel=is_panel, name=NAME
        )
        notes = [*rows.notes, *notes_on(self.pred_len, wanted.steps, wanted.shape)]
        known = know_ahead(self._trained, config, content, wanted.steps)
        predict = self._predict_panel if is_panel else self._predict_table
        predicted, skipped, more = predict(rows, wanted, style, known)
        predicted.attrs.update(skipped=skipped, notes=[*notes, *(note for note in more if note not in notes)])
        return predicted

    def _wanted(
        self,
        levels: Sequence[int],
        steps: int | None,
        at: str | None,
        lowest: float | None,
        is_sum: bool,
        strict: bool,
    ) -> Wanted:
        """Raises as `predict` for what cannot be asked for."""
        if steps is not None and not 1 <= steps <= 1_000_000:
            raise ConfigError(
                f"steps={steps} is not in the range from 1 to 1,000,000", f"the model's own: {self.pred_len}"
            )
        text = ",".join(map(str, levels))
        chosen = choose_levels(text, self._trained.intervals, self._checkpoint) if text else ()
        shape = Shape(chosen, lowest, is_sum)
        shape.require_bands(self._trained, steps or self.pred_len)
        return Wanted(steps or self.pred_len, shape, at, strict)

    def _predict_table(
        self, rows: Rows, wanted: Wanted, style: FrameStyle, known: KnownAhead | None
    ) -> tuple[pd.DataFrame, dict[str, str], tuple[str, ...]]:
        trained = self._trained
        given = continue_rows(rows, self._config, trained.columns, trained.cadence, wanted.at)
        given.dates(wanted.steps)  # raises, before anything is computed, where the calendar ends
        history_TC = require_numbers_of(given, trained, NAME)
        forecast = forecast_table(
            given, trained, self._runner, self._batch_size, history_TC, wanted.steps, wanted.shape, known
        )
        table = Layout(rows.csv, date_columns(rows.csv, self._config.data)).frame(forecast)
        return to_pandas([table], style), {}, given.notes

    def _predict_panel(
        self, rows: Rows, wanted: Wanted, style: FrameStyle, known: KnownAhead | None
    ) -> tuple[pd.DataFrame, dict[str, str], tuple[str, ...]]:
        data = self._config.data
        layout = Layout(rows.csv, date_columns(rows.csv, data), data.is_wide)
        panel = PanelForecasts(self._trained, self._config, self._runner, self._batch_size, wanted, known=known)
        with gpu_memory_errors():
            tables = [layout.frame(forecast) for forecast in panel.forecasts(rows)]
        if not tables:
            raise none_of(panel.skipped)
        return to_pandas(tables, style), panel.skipped, ()
