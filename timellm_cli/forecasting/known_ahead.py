"""What is known of the steps to forecast: text of their days, and columns of the input or of another file."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from timellm_cli.config import Config
from timellm_cli.data.ahead import AheadOfChannels, AheadRows, TrainedChannels, rows_ahead
from timellm_cli.data.day_axis import walls_of
from timellm_cli.data.day_lines import Calendar, Line
from timellm_cli.data.forecast_input import ForecastInput, continue_rows, split_panel
from timellm_cli.data.future_columns import columns_of_steps, read_rows_of_columns
from timellm_cli.data.rows import Rows
from timellm_cli.errors import ConfigError, DataError
from timellm_cli.model.day_reader import OnNote, read_days
from timellm_cli.model.line_reader import read_lines
from timellm_cli.model.runner import Runner
from timellm_cli.training.checkpoint import Checkpoint


def know_ahead(
    trained: Checkpoint, config: Config, content: Path | bytes, steps: int | None, future: Path | None = None
) -> "KnownAhead | None":
    """What is known of the steps, for a checkpoint that reads it; None for another.

    Raises ConfigError where the checkpoint was trained without text or columns that are given now, or with lines of
    other days; DataError for events and columns that cannot be used.
    """
    if future is not None and not config.data.future_columns:
        raise ConfigError(
            f"--future {future}: the checkpoint was trained without columns that are known ahead",
            "train with --future-columns first, or leave --future out",
        )
    if trained.days is None:
        if config.reads_ahead:
            raise ConfigError(
                "the checkpoint was trained without text of the days, and cannot read --events now",
                "train with --events first, or leave it out",
            )
        return None
    if config.ahead.shuffle:
        raise ConfigError(
            "the checkpoint read the text of other days (--text-shuffle), to be compared in `eval`",
            "forecast with one that was trained without it",
        )
    return KnownAhead(trained, config, content, future, steps or config.window.pred_len)


class KnownAhead:
    """Looks up what is known of the steps after a history."""

    def __init__(
        self, trained: Checkpoint, config: Config, content: Path | bytes, future: Path | None, steps: int
    ) -> None:
        """`content` is the input, `future` a file of the columns that are known ahead, in place of the input's own.

        Raises DataError for events and columns that cannot be used.
        """
        self._trained, self._config, self._steps = trained, config, steps
        self._unfilled = config.data.model_copy(update={"fill": "none"})  # what is known ahead is not made up
        names = config.data.future_columns
        self._calendar = Calendar(config.ahead, ())
        if config.ahead.has_text:
            self._calendar = Calendar.of(config.ahead, trained.columns, trained.ids)
        self._rows = self._read_columns(content if future is None else future) if names else None

    def check(self, given: ForecastInput, name: str = "") -> None:
        """Raise DataError where a column has no value for a step after `given`."""
        if self._rows is not None:
            self._columns(given, name)

    def read_first(self, rows: Rows, at: str | None, device: torch.device, on_note: OnNote) -> None:
        """Let the LLM of the text read the lines of all series of a file, so that the cache has them.

        Then it is loaded once, and not by each process that forecasts, or for each batch with new lines. Series that
        cannot be forecast are passed over. Raises ModelError where the LLM is absent.
        """
        config, trained = self._config, self._trained
        if config.text_llm is None or not config.hardware.prepared:
            return
        lines: dict[Line, None] = {}
        for name, own in split_panel(rows):
            try:
                given = continue_rows(own, config, trained.columns, trained.cadence, at)
                found = self._text(given, name).lines
            except DataError:
                continue
            lines |= dict.fromkeys(found.lines if found else ())
        if lines:
            read_lines(tuple(lines), config, device, on_note)

    def read(
        self,
        runner: Runner,
        inputs: Sequence[ForecastInput],
        names: Sequence[str] = ("",),
        on_note: OnNote = lambda _: None,
    ) -> AheadOfChannels:
        """What is known of the steps after each input, a series with its name; the model reads their lines from now on.

        Raises ModelError where the LLM that reads the text is absent.
        """
        places: dict[Line, int] = {}
        channels = []
        for given, name in zip(inputs, names, strict=True):
            rows, columns_SF = self._rows_ahead(given, name)
            if rows.lines:
                moved = torch.tensor([places.setdefault(line, len(places)) for line in rows.lines.lines])
                rows = replace(rows, line_GN=moved[rows.line_GN])
            channels.append(rows.of_channels(columns_SF))
        read_days(runner, tuple(places), self._config, on_note)
        return AheadOfChannels.joined(channels)

    def _text(self, given: ForecastInput, name: str) -> AheadRows:
        """What the calendar knows of the history and of the steps, up to whole forecasts."""
        assert self._trained.days is not None
        pred_len = self._config.window.pred_len
        whole = -(-self._steps // pred_len) * pred_len
        stamps = [*given.table.stamps.to_list(), *given.dates(whole)]
        walls = walls_of(pl.Series(stamps, dtype=pl.Datetime("us")), given.table.style)
        columns, clock = self._trained.columns, self._trained.days.clock
        rows = rows_ahead(walls, self._calendar, columns, (name,), torch.zeros(0, 0), clock)
        trained = TrainedChannels.of(columns, self._trained.ids, self._config.data.features)
        return rows.with_channels_of(columns, (name,), trained)

    def _rows_ahead(self, given: ForecastInput, name: str) -> tuple[AheadRows, Tensor]:
        rows = self._text(given, name)
        count = len(rows.slot_N)
        if self._rows is None:
            return rows, torch.zeros(count, 0)
        known_HF = self._columns(given, name)
        columns_SF = torch.zeros(count, known_HF.shape[1])
        start = len(given.table.stamps)
        columns_SF[start : start + self._steps] = known_HF
        columns_SF[start + self._steps :] = known_HF[-1]
        return rows, columns_SF

    def _columns(self, given: ForecastInput, name: str) -> Tensor:
        """Raw values of the columns, steps x F."""
        assert self._rows is not None
        own = name if self._rows.series is not None else ""
        frame = columns_of_steps(self._rows, given.dates(self._steps), own, self._unfilled)
        return torch.from_numpy(frame.to_numpy().astype("float32"))

    def _read_columns(self, source: Path | bytes) -> Rows:
        data = self._config.data.model_copy(update={"path": None})
        return read_rows_of_columns(data, source=source if isinstance(source, Path) else io.BytesIO(source))
