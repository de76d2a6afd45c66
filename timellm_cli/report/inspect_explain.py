"""Where the numbers of a plan come from: a drawing from a row to tokens, questions and answers, the bill. Light."""

from collections.abc import Iterable

from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from timellm_cli.planning.plan import Plan
from timellm_cli.report.inspect_answers import answers
from timellm_cli.report.tables import line_up, section
from timellm_cli.units import format_count, format_memory

Pair = tuple[str, str]
_TO = "  ▼"


def explanation(plan: Plan) -> Group:
    """The drawing, the questions people ask, and the memory bill's formulas."""
    parts = [
        section("From a row to tokens", _pairs(_flow(plan))),
        section("Questions people ask", _questions(plan)),
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
    channels, held = (
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
        ("row", f"a line of the CSV: a timestamp and {held}; {plan.data.rows:,} rows"),
        (_TO, f"{window.seq_len} rows of history and {window.pred_len} after; the next {_later(data.window_stride)}"),
        ("window", counted),
        (_TO, "one channel at a time" if counts.series is None else "one column at a time"),
        ("sample", f"{counts.windows:,} x {channels} = {counts.dataset_len:,} samples"),
        (_TO, f"{format_count(batch, 'sample')} at a time, in shuffled order"),
        ("batch", f"{per_epoch}, {format_count(counts.samples_dropped_per_epoch, 'sample')} left over"),
        (_TO, f"its history in pieces of {model.patch_len} rows; the next {_later(model.patch_stride)}"),
        ("patches", f"{pieces} a sample; x {batch} = {counts.patches_per_step:,} a step"),
        (_TO, "each patch becomes a token, behind the tokens of the prompt"),
        ("tokens", f"{each}; x {batch} = {plan.tokens_per_step:,} a step"),
    ]


def _questions(plan: Plan) -> Group:
    """Each question, with its answer below it."""
    blocks: list[Padding] = []
    for question, sentences in answers(plan):
        blocks.append(Padding(Text(question, style="bold"), (1 if blocks else 0, 0, 0, 1)))
        blocks += (Padding(Text(sentence), (0, 0, 0, 3)) for sentence in sentences)
    return Group(*blocks)


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
