"""`train --report-to`: the figures of a training go to a tracker that is installed. One adapter for all of them. Light.

None of them is a dependency. A tracker that fails ends no training: it is a note, and nothing more is sent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from timellm_cli.console import print_note
from timellm_cli.errors import ConfigError
from timellm_cli.training.records import EpochFinished, MemoryMeasured, Record, StepLogged

TrackerName = Literal["tensorboard", "swanlab", "wandb", "mlflow"]
_PROJECT = "timellm"
_MODULES = {"tensorboard": "torch.utils.tensorboard", "swanlab": "swanlab", "wandb": "wandb", "mlflow": "mlflow"}
_MOST_TEXT = 250
"""Longer values of the configuration are cut: MLflow refuses them."""


@dataclass(frozen=True)
class _Calls:
    """What a tracker gets: figures of a step, and the end."""

    log: Callable[[dict[str, float], int], Any]
    close: Callable[[], Any]


class Tracker:
    """Sends records to a tracker; without a name it sends nothing."""

    def __init__(self, name: TrackerName | None, run: str, values: Mapping[str, Any], folder: Path) -> None:
        """`values` are the configuration's. Raises ConfigError for a tracker that is not installed or cannot start."""
        self._name = name
        self._calls: _Calls | None = None
        if name is None:
            return
        module = require_tracker(name)
        texts = {key: str(value)[:_MOST_TEXT] for key, value in values.items()}
        try:
            self._calls = _STARTS[name](module, run, texts, folder)
        except Exception as error:
            raise ConfigError(
                f"{name} cannot start: {error}",
                f"set {name} up as its own documentation says, or leave --report-to out",
            ) from None

    def show(self, record: Record) -> None:
        """Send the figures of a log line, of an epoch, or of the memory."""
        if isinstance(record, StepLogged | EpochFinished | MemoryMeasured):
            figures, step = _figures(record), record.step
            self._try(lambda calls: calls.log(figures, step))

    def close(self) -> None:
        """The training is over."""
        self._try(lambda calls: calls.close())
        self._calls = None

    def _try(self, call: Callable[[_Calls], Any]) -> None:
        if self._calls is None:
            return
        try:
            call(self._calls)
        except Exception as error:
            print_note(f"{self._name} failed ({error}): it gets no more figures; the training goes on")
            self._calls = None


def require_tracker(name: str) -> Any:
    """The module of a tracker. Raises ConfigError with the command that installs it."""
    try:
        return import_module(_MODULES[name])
    except ImportError:
        raise ConfigError(f"{name} is not installed", f"pip install {name}") from None


def _figures(record: StepLogged | EpochFinished | MemoryMeasured) -> dict[str, float]:
    if isinstance(record, StepLogged):
        found = {"train/loss": record.loss, "train/learning_rate": record.learning_rate}
        return {**found, "train/samples_per_second": record.samples_per_second}
    if isinstance(record, EpochFinished):
        names = ("val_loss", "val_mse", "val_mae", "test_mse", "test_mae")
        return {f"{name.split('_')[0]}/{name.split('_')[1]}": getattr(record, name) for name in names}
    return {"memory/bytes": float(record.allocated)}


def _tensorboard(module: Any, _run: str, values: dict[str, str], folder: Path) -> _Calls:
    writer = module.SummaryWriter(str(folder / "tensorboard"))
    writer.add_text("configuration", "\n".join(f"    {key} = {value}" for key, value in values.items()))

    def log(figures: dict[str, float], step: int) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)

    return _Calls(log, writer.close)


def _wandb(module: Any, run: str, values: dict[str, str], folder: Path) -> _Calls:
    started = module.init(project=_PROJECT, name=run, config=values, dir=str(folder))
    return _Calls(lambda figures, step: started.log(figures, step=step), started.finish)


def _swanlab(module: Any, run: str, values: dict[str, str], folder: Path) -> _Calls:
    module.init(project=_PROJECT, experiment_name=run, config=values, logdir=str(folder / "swanlab"))
    return _Calls(lambda figures, step: module.log(figures, step=step), module.finish)


def _mlflow(module: Any, run: str, values: dict[str, str], _folder: Path) -> _Calls:
    module.set_experiment(_PROJECT)
    module.start_run(run_name=run)
    module.log_params(values)
    return _Calls(lambda figures, step: module.log_metrics(figures, step=step), module.end_run)


_STARTS: dict[str, Callable[[Any, str, dict[str, str], Path], _Calls]] = {
    "tensorboard": _tensorboard, "wandb": _wandb, "swanlab": _swanlab, "mlflow": _mlflow,
}  # fmt: skip
