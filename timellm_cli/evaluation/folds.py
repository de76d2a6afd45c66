"""A backtest in `eval`: the folds of a model become one entry, scored on all parts of the test rows.

Each fold standardises by its own training rows. All errors are expressed in units of the first fold, whose training
rows are those of a run without folds: so the joined figures can be compared with that run's.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from timellm_cli.config import Config
from timellm_cli.data.scale import Floats
from timellm_cli.data.windows import ForecastData
from timellm_cli.errors import ConfigError
from timellm_cli.evaluation.baselines import Baseline
from timellm_cli.evaluation.coverage import Coverage
from timellm_cli.evaluation.day_errors import DayErrors
from timellm_cli.evaluation.evaluated import Evaluated
from timellm_cli.evaluation.metric_sums import join_sums
from timellm_cli.evaluation.score import Scores
from timellm_cli.evaluation.seeds import name_groups, recipe
from timellm_cli.evaluation.spaced import SpacedErrors


def fold_of(config: Config) -> int:
    """Which fold a run is, from 1; 0 for a run without folds."""
    return config.data.fold or 0 if config.data.folds > 1 else 0


@dataclass(frozen=True)
class FoldRows:
    """The number of a fold, and the timestamps of the first and the last row that it is scored on."""

    fold: int
    first: str
    last: str


@dataclass(frozen=True, eq=False)
class Round:
    """Models and baselines, scored on the data of one fold; `fold` is 0 without folds, and where they are joined.

    `spaced` are the errors of slow baselines on some windows, where these are wanted.
    """

    fold: int
    models: tuple[Evaluated, ...]
    data: ForecastData
    baselines: tuple[tuple[Baseline, Scores], ...]
    spaced: SpacedErrors | None = None

    @property
    def std_C(self) -> Floats:
        """The raw deviations of the scored channels."""
        return self.data.scaler.std_C[-len(self.data.scored_channels) :]

    def rows(self, split: str) -> FoldRows:
        """The rows of a split that are forecast."""
        identity = self.data.identity[split]
        return FoldRows(self.fold, identity.first, identity.last)


def require_whole_folds(configs: Sequence[Config], names: Sequence[str], stages: Sequence[str]) -> None:
    """Raise ConfigError unless each model, under each seed, has one checkpoint of every fold that is given."""
    folds = sorted({fold_of(config) for config in configs})
    if len(folds) < 2:
        return
    if 0 in folds or len({config.data.folds for config in configs}) > 1:
        each = ", ".join(f"{name} {_say(config)}" for name, config in zip(names, configs, strict=True))
        raise ConfigError(
            f"these checkpoints cannot be joined: {each}", "evaluate the folds of one backtest, or runs without folds"
        )
    for positions in _by_run(configs, stages):
        own = [fold_of(configs[position]) for position in positions]
        if sorted(own) != folds:
            first, absent = names[positions[0]], [fold for fold in folds if fold not in own]
            what = f"fold {', '.join(map(str, absent))} is missing" if absent else "a fold is there twice"
            raise ConfigError(
                f"a backtest needs one checkpoint of each fold: {what} beside {first}",
                "give the same folds of every model and seed",
            )


def _say(config: Config) -> str:
    return f"is fold {fold_of(config)} of {config.data.folds}" if fold_of(config) else "has no folds"


def _by_run(configs: Sequence[Config], stages: Sequence[str]) -> list[list[int]]:
    """The positions of the folds that belong together: of one recipe, seed and stage, in the order of the folds."""
    keys = [(recipe(config), stage, config.train.seed) for config, stage in zip(configs, stages, strict=True)]
    groups: dict[int, list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        groups[keys.index(key)].append(position)
    return [sorted(group, key=lambda position: fold_of(configs[position])) for group in groups.values()]


def join_rounds(rounds: Sequence[Round]) -> Round:
    """One round over all folds. A single one is returned as it is."""
    if len(rounds) == 1:
        return rounds[0]
    every = [model for one in rounds for model in one.models]
    groups = _by_run([model.config for model in every], [model.stage for model in every])
    models = [_join_models([every[position] for position in group]) for group in groups]
    by_name: Mapping[str, list[tuple[Baseline, Scores]]] = defaultdict(list)
    for one in rounds:
        for baseline, scores in one.baselines:
            by_name[baseline.name].append((baseline, scores))
    baselines = [
        (
            replace(own[0][0], explanation=_of_folds(own[0][0].explanation, len(own))),
            replace(join_scores([scores for _, scores in own]), folds=tuple(scores for _, scores in own)),
        )
        for own in by_name.values()
        if len(own) == len(rounds)
    ]
    return Round(0, tuple(models), rounds[0].data, tuple(baselines))


def _of_folds(explanation: str, count: int) -> str:
    return f"{explanation} of the first of {count} folds, anew for each" if "fitted" in explanation else explanation


def _join_models(folds: Sequence[Evaluated]) -> Evaluated:
    joined = copy(folds[0])
    joined.name = name_groups([[one.name for one in folds]])[0]
    joined.scores = replace(join_scores([one.scores for one in folds]), folds=tuple(one.scores for one in folds))
    joined.coverage = _join_coverage(folds)
    joined.folds = tuple(folds)
    joined.event_day = next((one.event_day for one in folds if one.event_day is not None), None)
    of_days = [one.day_errors for one in folds if one.day_errors is not None]
    joined.day_errors = DayErrors.joined(of_days) if len(of_days) == len(folds) else None
    return joined


def join_scores(folds: Sequence[Scores]) -> Scores:
    """The errors over the windows of several folds, which are in the same units and of the same channels."""
    channel_W = np.concatenate([np.repeat(np.arange(len(one.channels)), one.windows_C) for one in folds])
    order_W = channel_W.argsort(kind="stable")  # channel by channel, and in it fold by fold
    sums = [one.metrics for one in folds if one.metrics is not None]
    return replace(
        folds[0],
        windows_C=np.sum([one.windows_C for one in folds], axis=0),
        sums_4C=np.sum([one.sums_4C for one in folds], axis=0),
        sums_4H=np.sum([one.sums_4H for one in folds], axis=0),
        window_mse_W=np.concatenate([one.window_mse_W for one in folds])[order_W],
        window_mae_W=np.concatenate([one.window_mae_W for one in folds])[order_W],
        metrics=join_sums(sums) if len(sums) == len(folds) else None,
        bands_4W=None,  # those of each fold are in `folds`
    )


def _join_coverage(folds: Sequence[Evaluated]) -> tuple[Coverage, ...]:
    """Shares and widths as means over the folds, weighted by their samples. Empty if one fold has no bands."""
    samples = np.array([one.scores.samples for one in folds], dtype=np.float64)
    weights = samples / samples.sum()
    joined = []
    for first in folds[0].coverage:
        same = [own for one in folds for own in one.coverage if own.level == first.level]
        if len(same) < len(folds):
            continue
        joined.append(
            Coverage(
                level=first.level,
                coverage=float(weights @ [one.coverage for one in same]),
                width=float(weights @ [one.width for one in same]),
                channels={name: float(weights @ [one.channels[name] for one in same]) for name in first.channels},
                parts=tuple((weights @ [one.parts for one in same]).tolist()),
                error=float(np.sqrt(np.square(weights * [one.error for one in same]).sum())),
            )
        )
    return tuple(joined)
