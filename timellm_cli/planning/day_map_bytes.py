"""Memory of the day map in a step, and of the one-time reading of its lines by an LLM. Light.

What stays and what autograd keeps is exact (`tests/planning/test_day_map_bytes.py`). Letters are those of
`model/day_map.py`.
"""

from dataclasses import replace

from timellm_cli.planning.activation_bytes import scoring_parts
from timellm_cli.planning.case import Case, Part
from timellm_cli.planning.weight_bytes import frozen_parts, loading_bytes, trainable_tensors

LINES_AT_ONCE = 32
"""So many lines of one length are read together (`model/line_reader.py`)."""


def fixed(case: Case) -> Part:
    """What was fitted, and the lines' vectors: mean and directions, each line's mixes, mean and scale of columns.

    Beside a fitted shortcut also the weights in closed form, and what each line adds by them.
    """
    days, count = case.days, 0
    how = ""
    if days is not None:
        count = days.vector * (1 + days.mixes) + days.lines * days.mixes + 2 * days.columns
        how = f"{days.vector:,} x {1 + days.mixes} numbers, {days.lines:,} lines x {days.mixes}, {days.columns} columns"
        weights = days.sizes(case.seq_len).rows * days.slots
        known = days.mixes + days.columns + (days.lines if days.mixes else 0)
        count += weights * known
        how += f", {weights:,} x {known} in closed form" if weights else ""
    return Part("day_map", "day map, fitted", 4 * count, f"{how} x 4 bytes")


def activations(case: Case) -> Part:
    """What autograd keeps of the day map, and what is known of the horizon, as the step's inputs.

    Of a sample: the aligned history (W), its mixes, for each core the profile of the day (A x D), and for each step of
    the horizon the profile's value and the line's mixes (A each), its columns (F), and the numbers of line and slot. A
    core of several mixes is kept once more in another order.
    """
    if case.days is None:
        return Part("day_map_activations", "activations of the day map", 0, "")
    sizes, steps = case.days.sizes(case.seq_len), case.pred_len
    wide = sizes.history_mixes + 1
    mixes = sum(mixes for _, mixes in sizes.cores.values())
    reordered = sum(mixes for _, mixes in sizes.cores.values() if mixes > 1)
    floats = sizes.width + wide + mixes * sizes.slots + 2 * mixes * steps + sizes.columns * steps
    # Integers of 8 bytes; a slot is not copied for each mix, but expanded.
    inputs = 8 * (2 * steps + case.seq_len) + 4 * sizes.columns * steps
    once = 4 * wide * reordered * sizes.slots
    sample = 4 * floats + inputs
    return Part(
        "day_map_activations", "activations of the day map", case.batch * sample + once,
        f"{case.batch} samples x {sample:,} bytes + {once:,} bytes of cores",
    )  # fmt: skip


def reader_case(case: Case) -> Case | None:
    """The LLM that reads the lines, as a case of its own; None where nothing is to be read."""
    if case.days is None or case.days.reader is None:
        return None
    reader = case.days.reader
    return replace(
        case,
        shape=reader,
        layers=case.days.reader_layers,
        batch=min(LINES_AT_ONCE, max(case.days.lines, 1)),
        prompt=0,
        prefix=0,
        patches=case.days.tokens,
        quantization="none",
        precision="bf16" if case.on_gpu else "fp32",
        decoder=case.days.reader_is_decoder,
        captured=False,
        recompute=False,
        days=None,
    )


def reader_bytes(case: Case) -> int:
    """The LLM that reads the lines, once it is loaded; 0 without one."""
    reader = reader_case(case)
    return sum(part.bytes for part in frozen_parts(reader) if part.key != "prototype_factor") if reader else 0


def reading_bytes(case: Case) -> int:
    """The most that is allocated while the lines are read: the run's own LLM and weights are there already.

    The reader is loaded, then layers of it work on some lines.
    """
    reader = reader_case(case)
    if reader is None:
        return 0
    own = sum(part.bytes for part in frozen_parts(case)) + 4 * sum(trainable_tensors(case).values())
    working = [part for part in scoring_parts(reader) if part.key != "reprogramming_activations"]
    most = max(loading_bytes(reader), reader_bytes(case) + sum(part.bytes for part in working))
    return own + most
