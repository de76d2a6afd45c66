"""One training of a recipe through the project's own code, with experiments that the project does not offer.

- `zero_head`: the head starts at zero, so that training starts with the shortcut alone;
- `shortcut_dropout`: share of the history that the shortcut does not see in a step;
- `only_period`: the shortcut has its periodic part alone, of this period;
- `from_mean`: the shortcut starts from the mean of the history instead of its last value.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from recipe_settings import Trial
from torch import Tensor, nn
from torch.nn import functional

from timellm_cli.config import Config
from timellm_cli.data.windows import load_data
from timellm_cli.datasets import DATASETS
from timellm_cli.model.load import load_model
from timellm_cli.model.time_llm import PeriodicMap, Shortcut, TimeLLM
from timellm_cli.settings import resolve
from timellm_cli.training.loop import Trainer
from timellm_cli.training.records import EpochFinished
from timellm_cli.training.run_directory import RunDirectory
from timellm_cli.training.state import seed_everything

_MONTH = 720
"""Rows of 30 days of an hourly ETT file."""


@dataclass(frozen=True)
class Place:
    """Where a trial finds its files and computes. `toy` cuts the training to a few steps on short windows."""

    llm: str
    data: Path
    device: str
    toy: bool = False


def run_trial(trial: Trial, place: Place) -> list[dict[str, float]]:
    """Figures of every epoch. Those of the test set are only told, never used to choose."""
    with tempfile.TemporaryDirectory() as temporary:
        config = make_config(trial, place, Path(temporary))
        data = load_data(config)
        seed_everything(config.train.seed)
        runner = load_model(config, torch.device(config.hardware.device))
        _experiment(runner.model, trial.values)
        directory = RunDirectory.of(config)
        directory.create()
        trainer = Trainer(config, data, runner, directory, scoring_batch=16 if place.toy else 512)
        epochs = []
        started = time.perf_counter()
        for record in trainer.run():
            if isinstance(record, EpochFinished):
                figures = {name: getattr(record, name) for name in ("val_mse", "val_mae", "test_mse", "test_mae")}
                epochs.append({**figures, "seconds": round(time.perf_counter() - started, 1)})
        return epochs


def make_config(trial: Trial, place: Place, folder: Path) -> Config:
    """The profile with what the trial changes, resolved."""
    on_gpu = place.device == "cuda"
    values = {
        "data.path": place.data / f"{trial.dataset}.csv", "data.dataset": trial.dataset, "llm.name": place.llm,
        "window.pred_len": trial.pred_len, "train.seed": trial.seed, "train.precision": "bf16" if on_gpu else "fp32",
        "train.patience": 0, "hardware.device": place.device, "hardware.capture": "on" if on_gpu else "off",
        "hardware.recompute": "off", "run.directory": folder, "run.name": "run", "run.save_steps": 0,
        **_fold(trial, place, folder),
        **{key: value for key, value in trial.values.items() if "." in key},
    }  # fmt: skip
    if place.toy:
        values |= {"train.max_steps": 4, "train.batch_size": 4, "data.window_stride": 700, "llm.layers": 1}
        values |= {"model.num_prototypes": 20}
    return resolve("etth1-smollm2").config.with_values(values)


def _fold(trial: Trial, place: Place, folder: Path) -> dict[str, Any]:
    """The first months of a dataset as one of its own, with a month behind them that stands for the test set."""
    if not trial.fold:
        return {}
    rows, train = (trial.fold + 1) * _MONTH, (trial.fold - 4) * _MONTH
    assert rows <= 16 * _MONTH, "the real test set is never looked at"
    lines = (place.data / f"{trial.dataset}.csv").read_text(encoding="utf-8").splitlines()[: rows + 1]
    path = folder / "fold.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {
        "data.dataset": "custom", "data.path": path, "data.train_ratio": train / rows, "data.test_ratio": _MONTH / rows,
        "prompt.description": DATASETS[trial.dataset].description,
    }  # fmt: skip


def _experiment(model: TimeLLM, values: dict[str, Any]) -> None:
    window, device = model.window, model.head.projection.weight.device
    other: Shortcut | None = None
    if "only_period" in values:
        other = PeriodicShortcut(window.seq_len, window.pred_len, values["only_period"])
    elif values.get("from_mean"):
        other = ShortcutFromMean(window.seq_len, window.pred_len)
    if other and model.shortcut is not None:
        model.shortcut = other.to(device)
    if values.get("zero_head"):
        nn.init.zeros_(model.head.projection.weight)
        nn.init.zeros_(model.head.projection.bias)
    if share := values.get("shortcut_dropout"):
        assert model.shortcut is not None
        model.shortcut.register_forward_pre_hook(
            lambda module, inputs: (functional.dropout(inputs[0], share, module.training),)
        )


class ShortcutFromMean(Shortcut):
    """Without NLinear's subtraction of the last value."""

    def forward(self, scaled_BT: Tensor) -> Tensor:
        """B x T to B x H."""
        return functional.linear(scaled_BT, self.weight_HT, self.bias_H)


class PeriodicShortcut(Shortcut):
    """SparseTSF's part of the shortcut alone, from the mean of the history."""

    def __init__(self, seq_len: int, pred_len: int, period: int) -> None:
        nn.Module.__init__(self)
        self.alone = PeriodicMap(seq_len, pred_len, period)

    def forward(self, scaled_BT: Tensor) -> Tensor:
        """B x T to B x H."""
        return self.alone(scaled_BT)
