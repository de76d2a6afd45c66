"""A plan as tables that fit 80 columns, the changes that need less memory, and the values of a sweep. Light."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType, group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from timellm_cli.console import as_is
from timellm_cli.errors import listed
from timellm_cli.llm_files import NO_LLM, find_llm
from timellm_cli.planning.days_ahead import DaysAhead
from timellm_cli.planning.experts import has_experts
from timellm_cli.planning.llm_shape import look_up_keys
from timellm_cli.planning.memory_bill import Memory, Saving
from timellm_cli.planning.plan import Plan
from timellm_cli.report.tables import line_up, section
from timellm_cli.splits import SPLITS
from timellm_cli.units import format_count, format_duration, format_memory

Row = tuple[str, str, str]
_PATHS = {
    "decoder": ("our own decoder", "prompt and patches in one pass"),
    "transformers_two_passes": ("transformers", "prompt read apart"),
    "transformers_one_pass": ("transformers", "one pass, with gradients for the prompt"),
    "transformers": ("transformers", "prompt read apart where the LLM allows it"),
    "none": ("no LLM", "patches go from reprogramming to the head"),
}
_FORMATS = {"nf4": "NF4 weights", "int8": "int8 weights", "none": "not quantized"}


def shown_prompt(plan: Plan) -> Group:
    """The prompt of the first training sample, or a typical one where the file is not here."""
    if plan.config.llm.name == NO_LLM:
        return section("Prompt", Text("none, without an LLM"))
    origin = (
        "of the first training sample" if plan.prompt.is_real else "with made-up statistics: the data file is not here"
    )
    return section(f"Prompt {origin}, {plan.prompt.tokens.total} tokens", as_is(plan.prompt.text))


@group()
def plan_tables(plan: Plan) -> Iterator[RenderableType]:
    """Data, training, tokens, LLM, memory and readiness, one table each."""
    window, data = plan.config.window, plan.config.data
    name = data.dataset if data.dataset != "custom" else plan.data.path.name
    headline = f"{name}: {window.seq_len} rows of history, {window.pred_len} rows of forecast, features {data.features}"
    yield Text(headline, style="bold")
    counted = "counted in the file" if plan.data.read else "as known of this dataset; its file is not here"
    of_series = "" if plan.counts.series is None else f" of {plan.counts.series:,} series"
    yield section(f"Data: {plan.data.rows:,} rows{of_series}, {counted}", _data_table(plan))
    if plan.data.notes:
        yield Padding(Text("\n".join(f"note: {note}" for note in plan.data.notes)), (0, 0, 0, 1))
    if plan.ahead:
        yield section("Known of the days ahead", _facts(_ahead_rows(plan.ahead, plan.reader_bytes)))
        if plan.ahead.notes:
            yield Padding(Text("\n".join(f"note: {note}" for note in plan.ahead.notes)), (0, 0, 0, 1))
    yield section("Training", _facts(_training_rows(plan)))
    yield section("Tokens", _facts(_token_rows(plan)))
    yield section(_llm_title(plan), _facts(_llm_rows(plan)))
    if plan.memory:
        kind = "GPU memory" if plan.memory.kind == "GPU" else "RAM"
        of_one = " of one process" if plan.shared else ""
        batch = plan.shared.each if plan.shared else plan.config.train.batch
        title = f"{kind}{of_one}, estimated, of a step with {format_count(batch, 'sample')}"
        yield section(title, _facts(_memory_rows(plan.memory)))
        yield Padding(_verdict(plan), (1, 0, 0, 1), expand=False)
        if plan.savings:
            yield section("What needs less memory", savings_table(plan.savings))
    else:
        yield section("Memory", Text(" not known, since the LLM's size is not counted; so there is no verdict"))
    yield section("Ready to train" if plan.ready else "Not ready to train yet", _readiness(plan))


def _ahead_rows(ahead: DaysAhead, reader_bytes: int) -> Iterator[Row]:
    if ahead.columns:
        yield "columns", f"{len(ahead.columns):,}", f"known for the steps ahead: {listed(ahead.columns, 6)}"
    if not ahead.reader:
        return
    if ahead.special_days is None:
        yield "lines", "-", f"of text, read by {ahead.reader}; the data file is not here"
        return
    yield "lines", f"{ahead.lines:,}", "of text, one for each day (or step, where steps are longer)"
    yield "distinct", f"{ahead.distinct:,}", f"different ones, each read once by {ahead.reader}"
    if reader_bytes:
        yield "memory", format_memory(reader_bytes), "of that LLM while it reads, before training; freed then"
    for split, (days, special) in ahead.special_days.items():
        yield f"{split} days", f"{special:,}", f"of {days:,} have an event or a holiday"


def shown_lines(plan: Plan) -> Group:
    """The text of the days after the table."""
    assert plan.ahead is not None
    none = Text("none: there is no text, or the data file is not here")
    lines = as_is("\n".join(plan.ahead.shown)) if plan.ahead.shown else none
    return section("Text of the days after the last row", lines)


def _data_table(plan: Plan) -> Table:
    is_panel = plan.counts.series is not None
    table = figures_table(" split", "rows", "windows", "columns" if is_panel else "channels", "samples")
    for split in SPLITS:
        count = getattr(plan.counts, split)
        columns = count.samples // count.windows
        table.add_row(f" {split}", f"{count.rows:,}", f"{count.windows:,}", f"{columns:,}", f"{count.samples:,}")
    return table


def _facts(rows: Iterator[Row]) -> Padding:
    """Rows of a name, a number and what it means."""
    return line_up((map(Text, row) for row in rows), "left", "right", "left")


def _training_rows(plan: Plan) -> Iterator[Row]:
    counts, train, run = plan.counts, plan.config.train, plan.config.run
    channels, each = format_count(counts.dataset_len // counts.windows, "channel"), "of each channel"
    if counts.series is not None:
        channels, each = format_count(counts.dataset_len // counts.windows, "column"), "of all series"
    yield "windows", f"{counts.windows:,}", f"to train on, {each}"
    yield "dataset_len", f"{counts.dataset_len:,}", f"training samples: windows x {channels}"
    yield "steps_per_epoch", f"{counts.steps_per_epoch:,}", f"steps, or iterations, of {train.batch} samples"
    yield "samples dropped", f"{counts.samples_dropped_per_epoch:,}", "at the end of an epoch, less than a batch"
    until = f"in {format_count(train.epochs, 'epoch')}, unless it stops early"
    yield (
        "total_steps",
        f"{counts.total_steps:,}",
        "as max_steps says" if train.max_steps == counts.total_steps else until,
    )
    if train.accumulate > 1:
        yield "optimizer_updates", f"{counts.optimizer_updates:,}", f"of the weights, one each {train.accumulate} steps"
    if time := plan.time:
        of_it = f"estimated, {format_duration(time.scoring)} of it for scoring"
        yield "an epoch takes", format_duration(time.epoch), f"about, on {time.card}: {of_it}"
        if plan.config.model.shortcut == "fitted":
            yield "epoch 0 takes", format_duration(time.scoring), "about: what the model starts from is scored first"
        if time.reading:
            yield (
                "reading takes",
                format_duration(time.reading),
                "about, once: the text, when its LLM is loaded",
            )
        yield "samples/s", f"{time.samples_per_second:,.0f}", f"about, of a step that takes {1000 * time.step:,.1f} ms"
    elif plan.memory and plan.memory.kind == "RAM":
        yield "an epoch takes", "-", "not estimated on a CPU; `train` says it after some steps"
    if shared := plan.shared:
        yield "processes", f"{shared.processes:,}", f"each takes {format_count(shared.each, 'sample')} of a step"
        size, times = format_memory(shared.exchanged_bytes), shared.times
        yield "gradients", size, f"summed each update in about {1000 * shared.exchange:,.1f} ms over {shared.network}"
        if times is not None:
            yield "faster", f"{times:,.2f} x", f"than one process that takes {shared.each} samples a step"
    written, kept = counts.step_checkpoints_written, counts.step_checkpoints_kept
    of_them = f"one each {run.save_steps:,} steps; {kept:,} {'stays' if kept == 1 else 'stay'}"
    none = f"save_steps is {run.save_steps:,}: only best.pt and last.pt"
    yield "step-N.pt", f"{written:,}", of_them if written else none


def _token_rows(plan: Plan) -> Iterator[Row]:
    counts, tokens = plan.counts, plan.prompt.tokens
    yield "patch_nums", f"{counts.patch_nums:,}", "patches of a sample, one token each"
    yield "patches_per_step", f"{counts.patches_per_step:,}", f"{counts.patch_nums:,} x {counts.batch_size:,} samples"
    if plan.config.llm.name == NO_LLM:
        return
    counted = "counted by its tokenizer" if tokens.exact else f"estimated, give or take {100 * tokens.error:.0f} %"
    yield "prompt tokens", f"{tokens.total:,}", f"of a sample, {counted}"
    yield "  static", f"{tokens.static:,}", "the same for every sample, read once a run"
    yield "  per sample", f"{tokens.per_sample:,}", "its own statistics"
    sum_of_tokens = f"({tokens.total:,} + {counts.patch_nums:,}) x {counts.batch_size:,} samples"
    yield "tokens a step", f"{plan.tokens_per_step:,}", sum_of_tokens


def _llm_title(plan: Plan) -> str:
    name = plan.config.llm.name
    if name == NO_LLM:
        return "LLM: none, the same model without one"
    return f"LLM: {name}" + (f" ({plan.shape.family})" if plan.shape else "")


def _llm_rows(plan: Plan) -> Iterator[Row]:
    shape, llm = plan.shape, plan.config.llm
    if shape is None:
        if llm.name != NO_LLM:
            yield "size", "not known", _unsized(plan)
        yield from _path_rows(plan)
        return
    yield "layers used", f"{plan.layers:,}", f"of {shape.layers:,}"
    yield "hidden size", f"{shape.hidden:,}", ""
    yield "vocabulary", f"{shape.vocab:,}", ""
    whole = f"frozen; the whole LLM has {shape.parameters(shape.layers):,}"
    yield "parameters", f"{shape.parameters(plan.layers):,}", whole
    doubled = ", double quantization" if llm.double_quant and llm.quantization == "nf4" else ""
    yield "format", plan.config.train.precision, f"arithmetic; {_FORMATS[llm.quantization]}{doubled}"
    if llm.weights == "random":
        yield "weights", "random", f"drawn under train.seed {plan.config.train.seed}; nothing is pretrained"
    if not shape.exact:
        yield "estimate", "", f"the architecture {shape.family} is not known and counted like a Llama"
    yield from _path_rows(plan)


def _path_rows(plan: Plan) -> Iterator[Row]:
    """What runs the LLM and why, and how a step runs."""
    path = plan.path
    if path.code is None:
        return
    runner, how = _PATHS[path.code]
    why = f": {path.reason}" if path.code not in ("decoder", "none") else ""
    yield "path", runner, how + why
    if path.code == "none":
        return
    layers = "layers are computed again" if path.recompute else "layers are kept"
    yield "step", *(("captured", f"as a CUDA graph; {layers}") if path.captured else ("not captured", layers))


def _unsized(plan: Plan) -> str:
    if (keys := look_up_keys(plan.config.llm.name)) and has_experts(keys):
        return "a mixture of experts of a kind that is not counted; it runs, without an estimate"
    if find_llm(plan.config.llm.name):
        return "its config.json names the sizes in a way of its own; it runs, without an estimate"
    return "neither a folder here nor the table of well-known LLMs has it"


def _memory_rows(memory: Memory) -> Iterator[Row]:
    for part in memory.bill.parts:
        yield part.label, format_memory(part.bytes), ""
    yield "total", format_memory(memory.bill.total), ""


def _verdict(plan: Plan) -> Group:
    """Fits or not, the largest batch, and what the published implementation would need, a line each."""
    memory, lines = plan.memory, []
    assert memory is not None
    if memory.budget is None:
        lines.append(
            Text.assemble(("No GPU is here: ", "bold yellow"), "give --vram 6GiB or --gpu T4 to see what fits a card")
        )
    else:
        lines += [_fits(memory, memory.budget), Text(_largest(memory))]
    if memory.plain:
        need = (
            f"{format_memory(memory.plain.total)}, {memory.plain.total / memory.bill.without_reading:.1f} times as much"
        )
        lines.append(Text(f"The published implementation needs at least {need}"))
    if memory.kind == "RAM":
        lines.append(Text("For a GPU, give --gpu T4 or --vram 6GiB"))
    if plan.cpu_memory and plan.cpu_memory.budget is not None:
        need, free = format_memory(plan.cpu_memory.bill.total), format_memory(plan.cpu_memory.budget)
        compared = f"On the CPU here {need} of {free} free ({plan.cpu_memory.source}): "
        lines.append(Text.assemble(compared, _fits_in_words(plan.cpu_memory)))
    return Group(*lines)


def _fits(memory: Memory, budget: int) -> Text:
    need, has = format_memory(memory.bill.total), format_memory(budget)
    if memory.source == "hardware.vram":
        return Text.assemble(f"{need} of {has} (hardware.vram): ", _fits_in_words(memory))
    return Text.assemble(f"{need} of {has} free ({memory.source}): ", _fits_in_words(memory))


def _fits_in_words(memory: Memory) -> tuple[str, str]:
    return ("fits", "bold green") if memory.fits else ("does not fit", "bold red")


def _largest(memory: Memory) -> str:
    largest, keeping = memory.largest_batch, memory.largest_keeping
    if largest and keeping is not None and keeping < largest:
        if not keeping:
            return f"Largest batch that fits: {largest:,} with recompute"
        return f"Largest batch that fits: {format_count(keeping, 'sample')}, or {largest:,} with recompute"
    if largest:
        return f"Largest batch that fits: {format_count(largest, 'sample')}"
    return "Not even one sample fits"


def _readiness(plan: Plan) -> Padding:
    rows = []
    for check in plan.checks:
        mark = Text("ok", style="green") if check.ok else Text("to do", style="bold red")
        detail = Text(check.detail)
        if check.remedy:
            detail.append("\n" + check.remedy, style="bold")
        rows.append((mark, Text(check.name), detail))
    return line_up(rows, "left", "left", "left")


_LITTLE = 0.02
"""A share of the memory that is not worth another setting."""


def savings_table(savings: Sequence[Saving]) -> Group:
    """A line for each change, with what it leaves and costs."""
    table = figures_table(" change", "total", "largest\nbatch", "time/\nsample")
    table.add_column("", no_wrap=True)
    for saving in savings:
        largest = "-" if saving.largest_batch is None else f"{saving.largest_batch:,}"
        time = f"x {saving.time:.2f}"
        table.add_row(f" {saving.flags}", format_memory(saving.total), largest, time, _worth(saving))
    others = [saving.flags.split()[0] for saving in savings if not saving.same_model]
    note = [Text(f" {', '.join(others)}: another model", style="dim")] if others else []
    return Group(table, *note)


def _worth(saving: Saving) -> Text:
    if saving.total > (1 - _LITTLE) * saving.before:
        return Text("helps little", style="dim")
    return fits_or_not(saving.fits)


def fits_or_not(fits: bool | None) -> Text:
    """The word for it; empty where there is nothing to compare with."""
    if fits is None:
        return Text("")
    return Text("fits", style="green") if fits else Text("does not fit", style="red")


def figures_table(first: str, *others: str) -> Table:
    """An empty table whose first column is text and whose others are figures."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(first, overflow="fold")  # figures are never cut
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
