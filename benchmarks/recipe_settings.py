"""The recipes that `recipe_search.py` tries: what each changes in the profile `etth1-smollm2`, by configuration key.

Keys without a dot are experiments that the project does not offer; `recipe_trial.py` says what they do.
"""

from dataclasses import dataclass
from typing import Any

Values = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """A recipe on a dataset.

    `fold` 8 means: train on the first 4 of 8 months and validate on the last 4; 0: the published borders.
    """

    setting: str
    values: Values
    seed: int = 2021
    dataset: str = "ETTh1"
    pred_len: int = 96
    fold: int = 0


_BASE: Values = {
    "model.shortcut": True, "model.shortcut_period": 0, "model.dropout": 0.1, "train.schedule": "onecycle",
    "train.average": False, "train.loss": "mae", "train.loss_units": "window", "train.optimizer": "adamw",
    "train.weight_decay": 1.0, "train.learning_rate": 1e-3, "train.epochs": 2, "train.batch_size": 128,
}  # fmt: skip


def _with(**changes: Any) -> Values:
    return _BASE | {key.replace("__", "."): value for key, value in changes.items()}


_FIRST: dict[str, Values] = {
    "base": _BASE,
    "no llm": _with(llm__name="none"),
    "no decay": _with(train__weight_decay=0.0),
    "standardised": _with(train__loss_units="standardised"),
    "3e-4": _with(train__learning_rate=3e-4),
    "4 epochs": _with(train__epochs=4),
    "zero head": _with(zero_head=True),
    "no shortcut": _with(model__shortcut=False),
    "dropout .3": _with(model__dropout=0.3),
    "3e-3": _with(train__learning_rate=3e-3),
    "decay 3": _with(train__weight_decay=3.0),
    "patch 24": _with(model__patch_len=24, model__patch_stride=24),
    "1 epoch": _with(train__epochs=1),
    "from mean": _with(from_mean=True),
    "period 24": _with(only_period=24),
    "d_ff 128": _with(model__d_ff=128),
    "batch 512": _with(train__batch_size=512),
    "average": _with(train__schedule="constant", train__learning_rate=5e-4, train__average=True),
    "2 layers": _with(llm__layers=2),
    "100 prototypes": _with(model__num_prototypes=100),
    "mse": _with(train__loss="mse"),
    "8 layers": _with(llm__layers=8),
    "shortcut dropout .2": _with(shortcut_dropout=0.2),
    "huber": _with(train__loss="huber"),
}

_PERIODIC = _with(
    train__schedule="constant", train__average=True, train__weight_decay=2.0, model__shortcut_period=24,
    model__dropout=0.3,
)  # fmt: skip

_FOLDS: dict[str, Values] = {
    "base": _PERIODIC,
    "decay 4": _PERIODIC | {"train.weight_decay": 4.0},
    "decay 3": _PERIODIC | {"train.weight_decay": 3.0},
    "decay 1": _PERIODIC | {"train.weight_decay": 1.0},
    "3 epochs": _PERIODIC | {"train.epochs": 3},
    "decay 4, 3 epochs": _PERIODIC | {"train.weight_decay": 4.0, "train.epochs": 3},
    "dropout .1": _PERIODIC | {"model.dropout": 0.1},
    "decay 4, dropout .1": _PERIODIC | {"train.weight_decay": 4.0, "model.dropout": 0.1},
    "no period": _PERIODIC | {"model.shortcut_period": 0},
    "decay 4, dropout .5": _PERIODIC | {"train.weight_decay": 4.0, "model.dropout": 0.5},
    "decay 4, 5e-4, 3 epochs": _PERIODIC | {"train.weight_decay": 4.0, "train.learning_rate": 5e-4, "train.epochs": 3},
    "5e-4": _PERIODIC | {"train.learning_rate": 5e-4},
    "decay 4, patch 24": _PERIODIC | {"train.weight_decay": 4.0, "model.patch_len": 24, "model.patch_stride": 24},
    "decay 4, 2e-3": _PERIODIC | {"train.weight_decay": 4.0, "train.learning_rate": 2e-3},
    "decay 6": _PERIODIC | {"train.weight_decay": 6.0},
    "decay 1, dropout .1, 5e-4, no period": _PERIODIC
    | {"train.weight_decay": 1.0, "model.dropout": 0.1, "train.learning_rate": 5e-4, "model.shortcut_period": 0},
}

ABLATIONS: dict[str, Values] = {
    "without the LLM": {"llm.name": "none"},
    "random LLM": {"llm.weights": "random"},
    "2 layers": {"llm.layers": 2},
    "no shortcut": {"model.shortcut": False, "model.shortcut_period": 0},
}
"""What each changes in the chosen recipe."""

SPANS = (0, 12, 10, 8)
"""Folds of round `folds`: the validation span as published is too noisy to choose by alone."""

ROUNDS: dict[str, list[Trial]] = {
    "first": [Trial(setting, values) for setting, values in _FIRST.items()],
    "folds": [Trial(setting, values, fold=fold) for setting, values in _FOLDS.items() for fold in SPANS],
}
"""The trials with which each round begins, the most important first."""
