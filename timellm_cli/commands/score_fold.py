"""The part of `timellm eval` that loads data, and scores models and baselines on the windows of one fold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from rich.text import Text
from torch import Tensor

from timellm_cli.commands.fetch import console_reporter
from timellm_cli.config import Config
from timellm_cli.console import err, print_note
from timellm_cli.data.batch import Batch
from timellm_cli.data.columns import date_columns
from timellm_cli.data.forecast_input import require_columns
from timellm_cli.data.open_csv import open_csv
from timellm_cli.data.scale import Floats
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.datasets import data_files, holds_several, remedy_for_data
from timellm_cli.datasets import data_path as path_of
from timellm_cli.errors import DataError
from timellm_cli.evaluation.bands import LEVELS, Intervals, ValidationErrors
from timellm_cli.evaluation.baselines import Baseline, fit_baselines, period_of
from timellm_cli.evaluation.classical import Classical
from timellm_cli.evaluation.coverage import CoverageCount
from timellm_cli.evaluation.day_errors import DayCount
from timellm_cli.evaluation.evaluated import Evaluated, require_comparable
from timellm_cli.evaluation.event_day import make_event_day
from timellm_cli.evaluation.examples import make_examples
from timellm_cli.evaluation.folds import Round
from timellm_cli.evaluation.metrics import MetricCount, seasonal_errors
from timellm_cli.evaluation.score import Forecaster, Scores, score
from timellm_cli.evaluation.spaced import SpacedErrors, errors_of_classical, histories_of, spaced_grids
from timellm_cli.evaluation.task import Task, stand_in, transfer
from timellm_cli.evaluation.window_bands import WindowBands
from timellm_cli.fetching.fetch import provide
from timellm_cli.forecasting.open_checkpoint import open_checkpoint, resolve_checkpoint
from timellm_cli.model.day_reader import read_days
from timellm_cli.model.linear_days import known_ahead
from timellm_cli.model.runner import free_gpu_memory, gpu_memory_errors
from timellm_cli.planning.hardware import Machine
from timellm_cli.processes.group import Group
from timellm_cli.report.progress import scoring_progress
from timellm_cli.training.checkpoint import Checkpoint

_BASELINE_BATCH = 1024


@dataclass(frozen=True)
class Scoring:
    """What is the same for every fold. `machine` is as it was before any model was loaded.

    `classical` are slow baselines, which have `minutes` for one fold in all. The processes of `group` score a part of
    the windows each; the first one of a machine fetches what is missing.
    """

    task: Task
    machine: Machine
    batch_size: int | None
    offline: bool
    with_bands_of_baselines: bool
    classical: tuple[str, ...] = ()
    minutes: float = 0.0
    group: Group = field(default_factory=Group)

    def score_fold(
        self, fold: int, models: Sequence[tuple[Evaluated, Checkpoint, Config]], std_C: Floats | None
    ) -> Round:
        """Score models and baselines on the data of these models; fills in what `Evaluated` leaves open.

        Errors are in units of `std_C`, the raw deviations of the scored channels, by default those of the data.
        Raises ConfigError where the models cannot be compared, DataError for the CSV, ModelError for the LLM.
        """
        self._load_data([model for model, _, _ in models], [config for _, _, config in models])
        # Baselines read the longest history, and of those the data that know most of the days ahead.
        own = [model.data for model, _, _ in models]
        data = max(own, key=lambda data: (data.config.window.seq_len, known_ahead(data)))
        period = period_of(data)
        seasonal_C = seasonal_errors(data, period.rows if period else 1)
        with_days = len(models) > 1 and any(model.config.reads_ahead for model, _, _ in models)
        for model, checkpoint, _ in models:
            days = DayCount(model.data, std_C) if with_days else None
            self._score_model(model, checkpoint, seasonal_C, std_C, days)
            model.day_errors = days.result(self.group) if days else None
        baselines = [(one, self._score_baseline(one, data, seasonal_C, std_C)) for one in fit_baselines(data)]
        season = period.rows if period and 2 * period.rows <= data.config.window.seq_len else 1
        spaced = self._score_classical(data, season, seasonal_C, std_C) if self.classical else None
        return Round(fold, tuple(model for model, _, _ in models), data, tuple(baselines), spaced)

    def _score_classical(
        self, data: ForecastData, season: int, seasonal_C: Floats, std_C: Floats | None
    ) -> SpacedErrors:
        """Slow baselines on windows at equal distances, as many as time allows."""
        split, limit = self.task.split, self.task.limit
        grids = list(spaced_grids(data, split, limit))
        levels = LEVELS if self.with_bands_of_baselines else ()
        runner = Classical(self.classical, season, data.config.window.pred_len, 60 * self.minutes, levels)
        waiting = len(grids[0]) * len(self.classical)
        with scoring_progress(" ".join(self.classical), waiting, "Fitting", "windows") as advance:

            def add(_: str, count: int) -> None:
                """Further windows are a bonus, which the bar does not show."""
                nonlocal waiting
                advance(min(count, waiting))
                waiting -= min(count, waiting)

            places, found = runner.run(grids, lambda places: histories_of(data, split, limit, places), add)
        return errors_of_classical(data, split, limit, places, found, seasonal_C, std_C)

    def _load_data(self, models: Sequence[Evaluated], configs: Sequence[Config]) -> None:
        """Load what each model is scored on. Raises ConfigError where the models cannot be compared."""
        task = self.task
        if task.zero_shot is None:
            require_comparable(models, task)
            scored = [config if task.csv is None else stand_in(config, task.csv) for config in configs]
        else:
            scored = [transfer(config, task.zero_shot) for config in configs]
        if self._fetches:
            for config in scored:
                provide(config, self.offline, console_reporter())
        self._wait_for_files()
        for model, config in zip(models, scored, strict=True):
            if task.zero_shot is not None:
                model.data = load_data(config, clock=model.clock)
            else:
                _require_trained_columns(model, config, task)
                model.data = load_data(config, model.scaler, model.columns, model.ids, model.clock)
            self.group.require_same("table", sha256(repr(model.data.identity).encode()).hexdigest()[:16])
        if task.zero_shot is not None:
            on_other_data = [
                replace(
                    model,
                    config=model.data.config,
                    columns=model.data.table.columns,
                    ids=model.data.table.series.ids,
                    scaler=model.data.scaler,
                )
                for model in models
            ]
            require_comparable(on_other_data, Task(split=task.split))

    def _score_model(
        self,
        model: Evaluated,
        checkpoint: Checkpoint,
        seasonal_C: Floats,
        std_C: Floats | None,
        days: DayCount | None,
    ) -> None:
        """Load the model, score it, make the examples, and free it: only one LLM at a time is in memory."""
        # Bands belong to the dataset and the channels that were validated.
        intervals = checkpoint.intervals if self.task.zero_shot is None else None
        rows_C = intervals.rows_of(model.data.table) if intervals else None
        if rows_C is not None and (rows_C[-len(model.data.scored_channels) :] < 0).any():
            intervals = None
        count = CoverageCount(intervals, model.data) if intervals else None
        offline = self.offline or not self._fetches
        try:
            with err.status(Text(f"Loading {model.name}")):
                if self._fetches and self.group.size > 1:
                    resolve_checkpoint(model.data.config, self.machine, offline, console_reporter())
                self._wait_for_files()
                runner, samples_at_once = open_checkpoint(
                    checkpoint, model.data.config, self.machine, offline, console_reporter(), print_note
                )
                if model.data.ahead and model.data.ahead.lines:
                    read_days(runner, model.data.ahead.lines.lines, model.data.config, print_note)
            with gpu_memory_errors():
                batch_size, also = self.batch_size or samples_at_once, [one.add for one in (count, days) if one]
                model.scores = self._score(
                    model.name, runner, model.data, batch_size, seasonal_C, intervals, std_C, also
                )
                model.examples = make_examples(runner, model.data, self.task.split, model.scores, intervals)
                model.event_day = make_event_day(runner, model.data, self.task.split)
        finally:
            free_gpu_memory()  # recorded CUDA graphs would keep their memory while the next model is loaded
        model.coverage = count.result(self.group) if count else ()

    def _score_baseline(
        self, baseline: Baseline, data: ForecastData, seasonal_C: Floats, std_C: Floats | None
    ) -> Scores:
        """The scores of a baseline; where bands of baselines are wanted, validation errors make them as a model's."""
        intervals = None
        if self.with_bands_of_baselines:
            errors = ValidationErrors(data, group=self.group)
            score(baseline.forecaster, data, "val", _BASELINE_BATCH, on_errors=errors.add, group=self.group)
            intervals = errors.intervals()
        return self._score(baseline.name, baseline.forecaster, data, _BASELINE_BATCH, seasonal_C, intervals, std_C, [])

    def _score(
        self,
        name: str,
        forecaster: Forecaster,
        data: ForecastData,
        batch_size: int,
        seasonal_C: Floats,
        intervals: Intervals | None,
        std_C: Floats | None,
        also: Sequence[Callable[[Batch, Tensor], None]],
    ) -> Scores:
        """Score with a progress bar; what is in `also` gets the errors as well."""
        split, limit = self.task.split, self.task.limit
        count = MetricCount(data, seasonal_C, intervals)
        bands = WindowBands(data, intervals) if intervals and self.classical and self.with_bands_of_baselines else None
        more = [bands.add] if bands else []

        def add(batch: Batch, error_BH: Tensor) -> None:
            for one in (count.add, *more, *also):
                one(batch, error_BH)

        own = self.group.place.part(len(data.windows(split).numbers(limit)))
        with scoring_progress(name, len(own)) as advance:
            scores = score(
                forecaster, data, split, batch_size, limit=limit, on_batch=advance, on_errors=add, std_C=std_C,
                group=self.group,
            )  # fmt: skip
        of_bands = bands.result(self.group) if bands else None
        return replace(scores, metrics=count.result(self.group), bands_4W=of_bands)

    @property
    def _fetches(self) -> bool:
        return self.group.place.local_rank == 0

    def _wait_for_files(self) -> None:
        """Until the first process of each machine has fetched what is missing there."""
        self.group.text_of_first("")


def _require_trained_columns(model: Evaluated, config: Config, task: Task) -> None:
    path = path_of(config.data)
    if task.csv is not None:
        for file in [] if config.data.is_wide else data_files(task.csv):
            csv = open_csv(file, None, config.data)
            require_columns(csv, date_columns(csv, config.data), model.columns)
    elif not path.is_file() and not holds_several(path):
        raise DataError(
            f"the CSV that {model.name} was trained on is not at {path}",
            "give it with --csv FILE.csv" + ("" if config.data.path else f", or: {remedy_for_data(config.data)}"),
        )
