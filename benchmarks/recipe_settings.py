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
    "model.shortcut": True, "train.loss": "mae", "train.loss_units": "window", "train.optimizer": "adamw",
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
    "period 24": _with(period=24),
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

_AVERAGED = _with(train__schedule="constant", train__average=True)

_SECOND: dict[str, Values] = {
    "dropout .3": _AVERAGED | {"model.dropout": 0.3},
    "both, dropout .3": _AVERAGED | {"both": 24, "model.dropout": 0.3},
    "both, patch 24, dropout .3": _AVERAGED
    | {"both": 24, "model.dropout": 0.3, "model.patch_len": 24, "model.patch_stride": 24},
    "both": _AVERAGED | {"both": 24},
    "both, dropout .3, 3e-3, one cycle": _with(both=24, model__dropout=0.3, train__learning_rate=3e-3),
}

ABLATIONS: dict[str, Values] = {
    "without the LLM": {"llm.name": "none"},
    "random LLM": {"llm.weights": "random"},
    "2 layers": {"llm.layers": 2},
    "no shortcut": {"model.shortcut": False},
}
"""What each changes in the chosen recipe."""

ROUNDS: dict[str, list[Trial]] = {
    name: [Trial(setting, values) for setting, values in settings.items()]
    for name, settings in (("first", _FIRST), ("second", _SECOND))
}
"""The trials with which each round begins, the most important first."""
