"""Where the numbers of a plan come from: from a row to tokens, each formula with its numbers, in plain words. Light."""

from collections.abc import Iterable

from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from timellm_cli.datasets import known_dataset
from timellm_cli.llm_files import NO_LLM
from timellm_cli.planning.plan import Plan
from timellm_cli.report.tables import line_up, section
from timellm_cli.units import format_count, format_memory

Pair = tuple[str, str]
_TO = "  ▼"


def explanation(plan: Plan) -> Group:
    """The drawing, the questions people ask, and the memory bill's formulas."""
    parts = [
        section("From a row to tokens", _pairs(_flow(plan))),
        section("In words", _pairs(_answers(plan).items())),
    ]
    if plan.memory:
        parts.append(section("Memory, part by part", _formulas(plan)))
    return Group(*parts)


def _flow(plan: Plan) -> list[Pair]:
    """Each stage, and an arrow to the next."""
    data, window, model, counts = plan.config.data, plan.config.window, plan.config.model, plan.counts
    batch, rows, patches = counts.batch_size, counts.train.rows, counts.patch_nums
    by_stride = f" // {data.window_stride}" if data.window_stride > 1 else ""
    starts = f"({rows:,} - {window.seq_len} - {window.pred_len}){by_stride} + 1"
    kind = "channel" if counts.series is None else "column"
    channels, values = (
        format_count(counts.dataset_len // counts.windows, kind),
        format_count(len(plan.data.columns), "value"),
    )
    counted = f"{starts} = {counts.windows:,} windows in the {rows:,} rows of train"
    if counts.series is not None:
        counted = f"{counts.windows:,} windows in the {rows:,} rows of train, those of each series counted alone"
    per_epoch = f"{counts.dataset_len:,} // {batch} = {counts.steps_per_epoch:,} steps an epoch"
    pieces = f"({window.seq_len} - {model.patch_len}) // {model.patch_stride} + 2 = {patches}"
    each = f"{plan.prompt.tokens.total} + {patches} = {plan.tokens_per_sample:,} a sample"
    return [
        ("row", f"a line of the CSV: a timestamp and {values}; {plan.data.rows:,} rows"),
        (_TO, f"{window.seq_len} rows of history and {window.pred_len} after; the next {_later(data.window_stride)}"),
        ("window", counted),
        (_TO, f"one {kind} at a time"),
        ("sample", f"{counts.windows:,} x {channels} = {counts.dataset_len:,} samples"),
        (_TO, f"{format_count(batch, 'sample')} at a time, in shuffled order"),
        ("batch", f"{per_epoch}, {format_count(counts.samples_dropped_per_epoch, 'sample')} left over"),
        (_TO, f"its history in pieces of {model.patch_len} rows; the next {_later(model.patch_stride)}"),
        ("patches", f"{pieces} a sample; x {batch} = {counts.patches_per_step:,} a step"),
        (_TO, "each patch becomes a token, behind the tokens of the prompt"),
        ("tokens", f"{each}; x {batch} = {plan.tokens_per_step:,} a step"),
    ]


def _answers(plan: Plan) -> dict[str, str]:
    """What people ask: sample, step, iteration, strides, save_steps, shuffling, prompt, splits."""
    data, window, model, tokens = plan.config.data, plan.config.window, plan.config.model, plan.prompt.tokens
    overlap = model.patch_len - model.patch_stride
    overlapping = f"; patches of {model.patch_len} rows overlap by {overlap}" if overlap > 0 else ""
    prompt = (
        f"{tokens.static} tokens are the same for every sample and read once a run; {tokens.per_sample} describe the "
        "sample's own minimum, maximum, median, trend and lags."
    )
    return {
        "sample": f"One channel of one window: {window.seq_len} values to read and {window.pred_len} to forecast. "
        "Each channel is forecast from itself, all by the same model.",
        "step": _step_answer(plan),
        "patch stride": f"{format_count(model.patch_stride, 'row')} from one patch to the next, inside a sample"
        f"{overlapping}. It decides how many tokens a sample has.",
        "window stride": f"{format_count(data.window_stride, 'row')} from one window to the next, along the file. It "
        "decides how many samples there are. Papers use 1.",
        "save_steps": _save_answer(plan),
        "shuffling": "Training samples are shuffled anew in every epoch, so a batch mixes windows and channels. "
        "Patches keep their order inside a sample, and rows inside a patch. In val and test nothing is shuffled or "
        "dropped.",
        **({} if plan.config.llm.name == NO_LLM else {"prompt": prompt}),
        "splits": _split_answer(plan),
    }


def _step_answer(plan: Plan) -> str:
    train, counts = plan.config.train, plan.counts
    whole = train.epochs * counts.steps_per_epoch
    text = (
        f"One batch of {format_count(train.batch, 'sample')}: forecast it, compare it with its future, take the "
        f"gradients. An iteration is the same. {counts.steps_per_epoch:,} steps are an epoch, and "
        f"{format_count(train.epochs, 'epoch')} {whole:,} steps"
    )
    text += f"; max_steps allows {counts.total_steps:,}." if counts.total_steps < whole else "."
    if train.accumulate > 1:
        updates = f"{counts.optimizer_updates:,} times in all"
        text += f" The weights change after every {train.accumulate} steps, {updates}."
    return text


def _split_answer(plan: Plan) -> str:
    data, rows, dataset = plan.config.data, plan.data.rows, known_dataset(plan.config.data)
    if dataset and dataset.month_rows:
        cut = f"12, 4 and 4 months of 30 days ({dataset.month_rows:,} rows)"
    else:
        train, test = int(rows * data.train_ratio), int(rows * data.test_ratio)
        cut = (
            f"the first {data.train_ratio:g} of {rows:,} rows, {train:,}, train; the last {data.test_ratio:g}, "
            f"{test:,}, test; {rows - train - test:,} between validate"
        )
    few = f"; the first {data.percent} % train" if data.percent < 100 else ""
    return (
        f"In order of time: {cut}{few}. val and test begin {plan.config.window.seq_len} rows early, as history of "
        "their first window, so what they score begins where the split before ends. The scaler sees train only."
    )


def _save_answer(plan: Plan) -> str:
    run, counts = plan.config.run, plan.counts
    if not run.save_steps:
        return "Steps from one step-N.pt to the next. It is 0 here: best.pt and last.pt are written after an epoch."
    return (
        f"Steps, not samples or epochs, from one step-N.pt to the next, over the whole run: {counts.total_steps:,} "
        f"// {run.save_steps:,} = {counts.step_checkpoints_written:,} are written, and the newest "
        f"{counts.step_checkpoints_kept:,} stay."
    )


def _formulas(plan: Plan) -> Padding:
    assert plan.memory is not None
    bill = plan.memory.bill
    rows = [(Text(part.label), Text(format_memory(part.bytes)), Text(part.how)) for part in bill.parts]
    total = Text("total", style="bold"), Text(format_memory(bill.total), style="bold"), Text("")
    return line_up([*rows, total], "left", "right", "left")


def _pairs(rows: Iterable[Pair]) -> Padding:
    return line_up(((Text(name, style="bold"), Text(text)) for name, text in rows), "left", "left")


def _later(rows: int) -> str:
    return f"begins {format_count(rows, 'row')} later"
