"""Notes under a leaderboard: what a reader must know of the rows, the runs and the lines before comparing them."""

from collections.abc import Iterator, Sequence

from timellm_cli.data.cadence import parse_cadence
from timellm_cli.data.windows import ForecastData
from timellm_cli.datasets import name_of
from timellm_cli.errors import listed
from timellm_cli.evaluation.coverage import drift_note
from timellm_cli.evaluation.evaluated import Evaluated, LeaderboardEntry
from timellm_cli.evaluation.folds import fold_of
from timellm_cli.evaluation.metrics import note_on_left_out
from timellm_cli.evaluation.seeds import recipe
from timellm_cli.evaluation.task import Task
from timellm_cli.splits import differences


def notes_on_entries(
    models: Sequence[LeaderboardEntry], baselines: Sequence[LeaderboardEntry], data: ForecastData, task: Task
) -> Iterator[str]:
    """Channels that no error can be made of, and bands that drift."""
    if baselines and (channels := list(baselines[0].channel_metrics.values())):
        yield from note_on_left_out(data.scored_channels, channels)
    if task.split == "test" and task.limit is None:
        yield from filter(None, (drift_note(entry.name, entry.coverage) for entry in models))


def notes_on(checkpoints: Sequence[Evaluated], data: ForecastData, task: Task) -> Iterator[str]:
    """What a reader has to know about the models and the windows. `data` is what was scored."""
    if task.csv is not None:
        yield (
            f"{task.csv.name} replaces the trained CSV: it is standardised by the checkpoint's scaler, and the "
            "baselines are fitted on its own training rows"
        )
        start = data.identity[task.split].first
        for one in checkpoints:
            if task.split != "train" and start <= (end := one.rows["train"].last):
                yield (
                    f"{one.name} was trained on rows up to {end}, and this {task.split} split starts at {start}: where "
                    "both files hold the same measurements, these figures say nothing about new data"
                )
    if task.zero_shot is not None:
        trained_on = listed(dict.fromkeys(name_of(one.config.data) for one in checkpoints), 6)
        yield (
            f"zero-shot: trained on {trained_on} and scored on {name_of(data.config.data)}, standardised by its own "
            "training rows; the baselines are fitted on those rows, which the models never saw"
        )
    yield from _notes_on_few_shots(checkpoints, data)
    if task.csv is None and task.zero_shot is None:
        for checkpoint in checkpoints:
            for one in checkpoint.folds or (checkpoint,):
                yield from notes_on_rows(one, task.split)
    trained_cadence = checkpoints[0].cadence
    trained, scored = str(parse_cadence(trained_cadence)), str(data.table.cadence)
    if trained != scored:
        yield f"trained on a row every {trained}, but scored on a row every {scored}"
    lengths = {one.config.window.seq_len for one in checkpoints}
    if len(lengths) > 1:
        each = ", ".join(f"{one.name} {one.config.window.seq_len}" for one in checkpoints)
        yield (
            f"seq_len differs ({each}): all forecast the same rows, but from histories of different length; "
            f"the baselines read {max(lengths)} rows"
        )
    if task.limit is not None:
        yield f"only the first {task.limit:,} windows of each channel were scored: not comparable with papers"
    yield from _notes_on_folds(checkpoints, task)
    if task.split != "test":
        yield f"this is the {task.split} split; papers report the test split"


def _notes_on_few_shots(checkpoints: Sequence[Evaluated], data: ForecastData) -> Iterator[str]:
    """Where not all training rows were trained on."""
    percents = [one.config.data.percent for one in checkpoints]
    if set(percents) != {100}:
        trained = f"first {percents[0]}% of the training rows"
        if len(set(percents)) > 1:
            each = ", ".join(f"{one.name} {one.config.data.percent}%" for one in checkpoints)
            trained = f"first part of the training rows ({each})"
        yield f"few-shot: trained on the {trained}; the baselines are fitted on {data.config.data.percent}%"


def _notes_on_folds(checkpoints: Sequence[Evaluated], task: Task) -> Iterator[str]:
    """What joined folds are, or that a fold stands alone."""
    if checkpoints[0].folds:
        first = fold_of(checkpoints[0].config)
        yield (
            f"each fold was trained on all rows before its part of the {task.split} rows but those that validated; "
            f"errors of all folds are in the standardised units of fold {first}"
        )
    elif fold_of(checkpoints[0].config) and task.zero_shot is None:
        fold, count = fold_of(checkpoints[0].config), checkpoints[0].config.data.folds
        yield f"this is fold {fold} of {count} alone: give the checkpoints of all folds to join them"


def notes_on_rows(checkpoint: Evaluated, split: str) -> Iterator[str]:
    """How the rows of the trained file differ from those that the checkpoint was trained on."""
    different = list(differences(checkpoint.rows, checkpoint.data.identity))
    if not different:
        return
    yield f"the file is not the one that {checkpoint.name} was trained on; " + "; ".join(different)
    trained, scored, chosen_by = checkpoint.rows["train"], checkpoint.data.identity[split], checkpoint.rows["val"]
    if split == "test" and trained.last < scored.first <= chosen_by.last:
        yield (
            f"rows of this test split were validation rows of {checkpoint.name}, up to {chosen_by.last}: they chose "
            "its best epoch and its bands"
        )
    if split != "train" and scored.first <= trained.last:
        yield (
            f"rows of this {split} split were trained on: {checkpoint.name} was trained on rows up to {trained.last}, "
            f"and the split goes from {scored.first} to {scored.last}. These figures say nothing about new data"
        )


def notes_on_repeats(checkpoints: Sequence[Evaluated]) -> Iterator[str]:
    """Which checkpoints are no seeds of their own."""
    for position, one in enumerate(checkpoints):
        for other in checkpoints[:position]:
            same = one.training_id and one.training_id == other.training_id
            equal = recipe(one.config) == recipe(other.config) and one.config.train.seed == other.config.train.seed
            if not same and not equal:
                continue
            what = "of one training" if same else f"trained with the same settings and the seed {one.config.train.seed}"
            yield f"{other.name} and {one.name} are {what}: they are two lines, not two seeds"
            break
