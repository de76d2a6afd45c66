"""The questions that people ask about a run, answered with the numbers of its plan. Light."""

from collections.abc import Iterator

from timellm_cli.config import DataConfig
from timellm_cli.datasets import Dataset, known_dataset
from timellm_cli.llm_files import NO_LLM
from timellm_cli.planning.plan import Plan
from timellm_cli.planning.shapes import hidden_size
from timellm_cli.splits import BORDERS, split_series
from timellm_cli.units import format_count

Answer = tuple[str, list[str]]
"""A question, and the sentences that answer it."""
_DAYS = 30  # of a month, in the split of the ETT datasets


def answers(plan: Plan) -> list[Answer]:
    """Each question with its answer, from the rows of the file to the layers of the LLM."""
    found = [
        _rows_answer(plan),
        _sample_answer(plan),
        ("Is a step an iteration? Is it one batch?", list(_step_sentences(plan))),
        _batch_answer(plan),
        ("What does save_steps count?", list(_save_sentences(plan))),
        ("Which stride is which?", list(_stride_sentences(plan))),
        ("What is shuffled?", _shuffle_sentences(plan)),
        ("How many patches go into the next layer?", list(_patch_sentences(plan))),
    ]
    if plan.config.llm.name != NO_LLM:
        found.append(("What does the prompt say?", _prompt_sentences(plan)))
    return found


def _rows_answer(plan: Plan) -> Answer:
    config, train = plan.config, plan.counts.train.rows
    dataset = known_dataset(config.data)
    sentences = list(_series_sentences(plan) if plan.data.series.is_panel else _border_sentences(plan, dataset))
    rows = format_count(config.window.seq_len, "row")
    sentences.append(
        f"val and test also read the {rows} before their own, as history of their first window; only their own rows "
        "are scored."
    )
    sentences.append("Mean and deviation for standardising come from the training rows alone.")
    return f"Where do the {train:,} rows of train come from?", sentences


def _border_sentences(plan: Plan, dataset: Dataset | None) -> Iterator[str]:
    """How one table is cut into train, val and test."""
    data, rows, history = plan.config.data, plan.data.rows, plan.config.window.seq_len
    (spans,) = split_series(plan.data.series, dataset, data, plan.config.window)
    train, val, test = spans.scaler.rows, spans.val.stop - spans.scaler.stop, spans.test.stop - spans.val.stop
    if data.folds > 1:
        number = data.fold or data.folds
        yield (
            f"The test rows are cut into {data.folds} folds, and this is fold {number}: {test:,} rows. "
            f"The {val:,} rows before them validate, and all {train:,} rows before these train."
        )
    elif dataset and dataset.month_rows:
        months, until_val, until_test = BORDERS
        day, val_months, test_months = dataset.month_rows // _DAYS, until_val - months, until_test - until_val
        yield (
            f"{dataset.name} is cut by months of {_DAYS} days, as in the papers: "
            f"{months} x {_DAYS} days x {day} rows = {train:,} rows train."
        )
        yield (
            f"The next {val_months} months, {val:,} rows, validate, and the {test_months} months after them, {test:,} "
            "rows, test."
        )
        if unused := rows - spans.test.stop:
            yield f"The last {unused:,} of the {rows:,} rows are not used."
    else:
        shares = _shares(data)
        yield f"The file has {rows:,} rows, cut in order of time: the first {shares[0]} train, {train:,} rows."
        yield f"The last {shares[1]}, {test:,} rows, test. The {val:,} rows between them validate."
    if data.percent < 100:
        yield (
            f"percent {data.percent} keeps the first part of the training rows: ({train:,} - {history:,}) x "
            f"{data.percent} // 100 + {history:,} = {spans.train.rows:,} rows."
        )


def _series_sentences(plan: Plan) -> Iterator[str]:
    """How the series of a panel are cut."""
    data, counts, shares = plan.config.data, plan.counts, _shares(plan.config.data)
    if data.split_by == "ratio" or data.is_wide:
        yield f"Each of the {counts.series:,} series is cut by itself."
        cut = f"The first {shares[0]} of its rows train, and the last {shares[1]} test; those between validate."
    else:
        yield f"The {counts.series:,} series are cut at the same dates."
        cut = f"About the first {shares[0]} of all rows train, and the last {shares[1]} test; those between validate."
    if data.folds > 1:
        yield f"The last {shares[1]} are cut into {data.folds} folds, and this is fold {data.fold or data.folds}."
        yield "The rows before the fold validate, and all rows before these train."
    else:
        yield cut
    if data.percent < 100:
        yield f"percent {data.percent} keeps the first part of the training rows of each series."
    train, val, test = counts.train.rows, counts.val.rows, counts.test.rows
    yield f"All series together, with their histories: {train:,} rows in train, {val:,} in val, {test:,} in test."


def _shares(data: DataConfig) -> tuple[str, str]:
    """Of the rows, how much trains and tests, in percent."""
    return f"{100 * data.train_ratio:g} %", f"{100 * data.test_ratio:g} %"


def _sample_answer(plan: Plan) -> Answer:
    counts, window, data = plan.counts, plan.config.window, plan.config.data
    columns, windows = counts.dataset_len // counts.windows, counts.windows
    question = f"What is a sample? Why times {columns}?" if columns > 1 else "What is a sample?"
    whole = f"{window.seq_len:,} rows of history and the {window.pred_len:,} rows after them"
    sentences = [f"One channel of one window: {whole}."]
    if columns > 1:
        of_series = f" of all {counts.series:,} series" if counts.series is not None else ""
        sentences += [
            "Time-LLM forecasts each channel from itself, all with the same weights.",
            f"So a window with {columns:,} channels makes {columns:,} samples: {windows:,} windows{of_series} x "
            f"{columns:,} = {counts.dataset_len:,} training samples.",
        ]
    elif counts.series is not None:
        sentences.append(
            f"Each of the {counts.series:,} series is one channel, forecast from itself: their {windows:,} windows are "
            f"{windows:,} training samples."
        )
    else:
        sentences.append(
            f"This run has one channel, {plan.data.columns[-1]}: {windows:,} windows make {windows:,} training samples."
        )
    if data.features == "MS" and columns > 1:
        sentences.append(
            f"features MS: all {columns:,} channels train, but {plan.data.columns[-1]} alone is scored in val and test."
        )
    return question, sentences


def _step_sentences(plan: Plan) -> Iterator[str]:
    train, counts = plan.config.train, plan.counts
    batch, steps, whole = counts.batch_size, counts.steps_per_epoch, train.epochs * counts.steps_per_epoch
    samples, dropped = format_count(batch, "sample"), counts.samples_dropped_per_epoch
    yield "Yes, these are three words for one thing."
    yield f"A step reads one batch ({samples}), makes its forecasts, and computes the gradients of their error."
    if plan.shared:
        each = format_count(plan.shared.each, "sample")
        yield f"{plan.shared.processes:,} processes share the batch, {each} each at most; together that is one step."
    yield f"An epoch: {counts.dataset_len:,} samples // {batch:,} = {steps:,} steps."
    if dropped:
        yield f"It leaves {format_count(dropped, 'sample')} over, which that epoch does not read."
    if counts.total_steps < whole:
        yield f"max_steps ends the run after {counts.total_steps:,} steps; all epochs would have {whole:,}."
    else:
        early = ", unless it stops early" if train.patience and train.epochs > 1 else ""
        yield f"The run: {format_count(train.epochs, 'epoch')} x {steps:,} = {whole:,} steps{early}."
    if train.accumulate == 1:
        yield "The weights change in every step."
        return
    yield (
        f"The weights change after every {train.accumulate:,} steps, because accumulate is {train.accumulate:,}: one "
        f"update sees {train.accumulate:,} x {batch:,} = {train.accumulate * batch:,} samples."
    )
    yield f"That makes {format_count(counts.optimizer_updates, 'update')}."
    if counts.optimizer_updates * train.accumulate > counts.total_steps:
        yield "The last update of an epoch or of the run sees fewer, where steps are left over."


def _batch_answer(plan: Plan) -> Answer:
    batch, workers = plan.counts.batch_size, plan.config.train.workers
    of_all = ", of all processes together" if plan.shared else ""
    sentences = [
        f"batch_size {batch} (in scripts BATCH={batch}) is how many samples a step reads{of_all}.",
        "Twice as many make half the steps, and need more memory.",
    ]
    if workers == 1:
        sentences.append("workers 1 (in scripts num_workers=1): 1 process prepares the next batches on the CPU.")
    elif workers:
        sentences.append(
            f"workers {workers} (in scripts num_workers={workers}): {workers} processes prepare the next batches on "
            "the CPU while a step runs."
        )
    else:
        sentences.append("workers 0 (in scripts num_workers=0): the training process prepares its batches itself.")
    sentences.append("Workers do not train: their number changes the speed alone, never a batch, a step or a result.")
    return f"What do batch_size {batch} and workers {workers} mean?", sentences


def _save_sentences(plan: Plan) -> Iterator[str]:
    run, total = plan.config.run, plan.counts.total_steps
    every, written, kept = run.save_steps, plan.counts.step_checkpoints_written, plan.counts.step_checkpoints_kept
    if not every:
        yield "Steps from one step-N.pt to the next. It is 0 here, so none is written."
    else:
        yield "Steps, not samples, epochs or updates, counted over the whole run; a resumed run counts on."
        if written:
            stay = f"the newest {kept:,} stay" if written > kept else "all of them stay"
            yield f"{total:,} steps // {every:,} = {written:,} times step-N.pt is written; {stay}."
        else:
            yield f"The run has {total:,} steps and save_steps is {every:,}, so no step-N.pt is written."
    yield "best.pt and last.pt are written after each epoch anyway."


def _stride_sentences(plan: Plan) -> Iterator[str]:
    model, counts, stride = plan.config.model, plan.counts, plan.config.data.window_stride
    length, by = model.patch_len, model.patch_stride
    yield f"patch_stride {by:,} moves inside a sample, from one patch to the next."
    if counts.patch_nums > 1:
        shared, between = format_count(max(length - by, 0), "row"), format_count(max(by - length, 0), "row")
        ends = f"Patch 1 has rows 1 to {length:,} of the history, patch 2 rows {by + 1:,} to {by + length:,}"
        yield f"{ends}: {f'{between} between them are not read' if by > length else f'they share {shared}'}."
    yield f"It decides how many patches a sample has: {counts.patch_nums:,}."
    yield f"window_stride {stride:,} moves along the rows, from one window to the next."
    yield f"The first window begins at row 1, the second at row {stride + 1:,}. Papers use 1."
    yield f"It decides how many windows there are to train on: {counts.windows:,}."


def _shuffle_sentences(plan: Plan) -> list[str]:
    samples, seed = format_count(plan.counts.dataset_len, "training sample"), plan.config.train.seed
    mixed = "windows and channels" if plan.counts.channels > 1 else "windows of all times"
    return [
        f"The order of the {samples}, anew in each epoch (from seed {seed}): a batch mixes {mixed}.",
        "Inside a sample nothing moves: rows and patches keep their order.",
        "val and test are not shuffled, and none of their samples is left out.",
    ]


def _patch_sentences(plan: Plan) -> Iterator[str]:
    window, model, counts = plan.config.window, plan.config.model, plan.counts
    patches, batch, width = counts.patch_nums, counts.batch_size, hidden_size(plan.config, plan.shape)
    times = format_count(model.patch_stride, "time")
    size = f"{width:,} numbers" if width else "as many numbers as the LLM's hidden size"
    yield (
        f"All of them: ({window.seq_len:,} - {model.patch_len:,}) // {model.patch_stride:,} + 2 = {patches:,} of each "
        f"sample, x {batch:,} = {counts.patches_per_step:,} in a step."
    )
    yield f"The last patch needs padding: the last value of the history is repeated {times}."
    if plan.config.llm.name == NO_LLM:
        yield f"Reprogramming makes {size} of each. There is no LLM, so they go straight to the head."
    else:
        tokens = plan.prompt.tokens.total
        yield f"Reprogramming makes one token of each, with {size}."
        yield (
            f"The LLM reads {tokens:,} prompt tokens + {patches:,} patches = {plan.tokens_per_sample:,} tokens of a "
            f"sample; every layer hands all {patches:,} patches on."
        )
        yield f"After the last layer the {patches:,} patches are kept."
    read = patches * model.d_ff
    steps = f"{window.pred_len:,}"
    yield f"The head reads {model.d_ff:,} numbers of each, {read:,} in all, and writes {steps}: the forecast."
    yield "--show-patches prints these shapes and the patches of the first sample."


def _prompt_sentences(plan: Plan) -> list[str]:
    tokens = plan.prompt.tokens
    return [
        f"It has {'' if tokens.exact else 'about '}{tokens.total:,} tokens: {tokens.static:,} are the same for every "
        "sample and read once a run.",
        f"The other {tokens.per_sample:,} give the sample's own minimum, maximum, median, trend and lags.",
        "--show-prompt prints it.",
    ]
