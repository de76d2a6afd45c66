"""The bill and the estimate of time against runs that were measured on a GPU (`benchmarks/memory_grid.csv`).

The formulas were made with the groups measured first. The groups named `fresh` were measured afterwards, on other
settings; `fresh-large` was looked at to choose the constants of fragmentation, the others to choose
nothing. What is held against the bill is what torch reserved, and the CUDA context as measured on that card.
"""

import csv
import statistics
from dataclasses import replace

import pytest

from tests.conftest import REPOSITORY
from timellm_cli.config import Config
from timellm_cli.planning.case import Case
from timellm_cli.planning.decoder_bytes import Tensors, backward_moments, forward_moments
from timellm_cli.planning.duration import Speed, step_seconds
from timellm_cli.planning.llm_shape import look_up_llm
from timellm_cli.planning.memory_bill import our_bill
from timellm_cli.planning.prompt_tokens import TokenCount
from timellm_cli.planning.weight_bytes import allocator

Row = dict[str, str]
KEYS = {
    "llm.name": "llm", "llm.layers": "layers", "train.batch_size": "batch", "window.seq_len": "seq_len",
    "llm.quantization": "quantization", "llm.double_quant": "double_quant", "llm.implementation": "implementation",
    "train.precision": "precision", "train.optimizer": "optimizer", "train.accumulate": "accumulate",
    "model.d_ff": "d_ff", "model.num_prototypes": "num_prototypes", "model.dropout": "dropout",
    "hardware.capture": "capture", "hardware.recompute": "recompute",
}  # fmt: skip
GIB = 2**30
LINE = 6 * GIB


def _read() -> list[Row]:
    with (REPOSITORY / "benchmarks" / "memory_grid.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


ROWS = _read()
FRESH = [row for row in ROWS if row["group"].startswith("fresh")]
UNSEEN = [row for row in FRESH if row["group"] != "fresh-large"]
"""Nothing at all was chosen with these."""
FIRST = [row for row in ROWS if not row["group"].startswith("fresh")]
CONTEXT = statistics.median(int(row["device"]) - int(row["reserved"]) for row in FIRST)


def case_of(row: Row) -> Case:
    """The step that was measured, with the tokens that its prompts really had."""
    values: dict[str, object] = {key: row[column] for key, column in KEYS.items()}
    config = Config().with_values(values | {"data.dataset": "ETTm1", "hardware.device": "cuda"})
    head, prompt = int(float(row["head_tokens"])), int(float(row["prompt_tokens"]))
    case = Case.of(config, look_up_llm(row["llm"]), TokenCount(head, prompt - head, True, 0.0), None)
    major, minor = row["capability"].split(".")
    return replace(case, capability=(int(major), int(minor)), multiprocessors=int(row["multiprocessors"]))


def allocated(row: Row) -> int:
    """What the bill says that torch has allocated at the peak."""
    bill = our_bill(case_of(row))
    return bill.total - bill["allocator"] - bill["cuda_context"]


def kept_then(case: Case) -> int:
    """What a step kept beyond today's when these rows were measured: attention's own output and sums, with dropout.

    Dropout is drawn again in the backward pass since, and keeps an offset (4 bytes) of each sample instead.
    """
    then = had_then(case) if case.decoder else 0
    if case.model.dropout == 0:
        return then
    output = case.inner * case.number_bytes if case.number_bytes < 4 else 0
    return then + case.batch * (case.patches * (output + 4 * case.model.n_heads) - 4)


def had_then(case: Case) -> int:
    """What the worst moment of the decoder had beyond today's.

    Attention was computed before the MLP's gradient, and its matrices written out, also where layers are kept.
    """
    assert case.shape is not None
    size, moments = Tensors(case, case.shape), forward_moments(case, keeps=True) | backward_moments(case)
    query, vectors, patches = size.queries(case.patches), size.vectors(case.patches), case.patches
    sums = size.softmax_sums(patches)
    early = 0 if case.recompute else query + sums + size.written_out("q", "k", "v", "o")
    mlp = moments["gradient of the last layer's MLP"] + early
    around = mlp - size.mlp_backward(patches) - sums
    norms = max(2 * vectors, 3 * size.normed_heads(patches))
    merged = query + size.keys_values(patches) + norms
    attention = around + 2 * query + size.keys_values(case.context) + max(2 * sums, merged)
    return max(0, mlp - max(moments.values()), attention - max(moments.values()))


def taken(row: Row) -> float:
    """What the bill says that the process takes of the card, memory growing in one piece; the context as measured."""
    case = case_of(row)
    parts = [part for part in our_bill(case).parts if part.key not in ("allocator", "cuda_context")]
    return sum(part.bytes for part in parts) + allocator(case, parts, in_one_piece=True).bytes + CONTEXT


def was_taken(row: Row) -> float:
    return int(row["reserved"]) + CONTEXT


def errors(rows: list[Row]) -> list[float]:
    """Relative errors of the whole bill: above zero, it says too much."""
    return [taken(row) / was_taken(row) - 1 for row in rows]


def test_the_grid_is_wide() -> None:
    assert (len(FIRST), len(FRESH), len(UNSEEN)) == (65, 48, 27)
    assert len({row["llm"] for row in ROWS}) >= 8
    for column, kinds in {"quantization": 3, "capture": 2, "recompute": 2, "optimizer": 2, "implementation": 2}.items():
        assert len({row[column] for row in ROWS}) >= kinds, column


@pytest.mark.parametrize("rows", [UNSEEN, FRESH], ids=["nothing was chosen with", "measured afterwards"])
def test_fresh_runs_take_what_the_bill_says(rows: list[Row]) -> None:
    """The goal was 5 % at most, 2 % in the median, and 3 % under; one run through transformers is 3.2 % under."""
    fresh = errors(rows)
    assert max(fresh) < 0.03
    assert statistics.median(map(abs, fresh)) < 0.006
    assert min(fresh) > -0.033
    assert sum(error < -0.016 for error in fresh) <= 1


def test_their_peak_of_allocated_memory_is_the_bills() -> None:
    """To half a percent with our decoder; transformers' layers are counted less exactly."""
    misses = {False: [0.0], True: [0.0]}
    for row in FRESH:
        kept = allocated(row) + kept_then(case_of(row))
        misses[case_of(row).decoder].append(abs(kept / int(row["step_peak"]) - 1))
    assert max(misses[True]) < 0.005
    assert max(misses[False]) < 0.027


def test_the_verdict_on_six_gibibytes_is_right_wherever_it_is_not_close() -> None:
    clear = [row for row in FRESH if abs(was_taken(row) / LINE - 1) > 0.03]
    assert {was_taken(row) <= LINE for row in clear} == {True, False}
    assert [row for row in clear if (taken(row) <= LINE) != (was_taken(row) <= LINE)] == []


def test_the_peak_of_the_runs_measured_first_is_near_as_well() -> None:
    """Transformers' layers, GPT-2 and int8 among them; allocated memory, as torch reserved it in separate pieces."""
    first = [abs(allocated(row) / int(row["step_peak"]) - 1) for row in FIRST]
    assert statistics.median(first) < 0.01
    assert max(first) < 0.06


def test_the_context_is_the_one_that_was_measured() -> None:
    """Of runs that were the first of their process: others find there what earlier ones have loaded."""
    alone = [row for row in ROWS if row["order"] == "0"]
    assert {row["capture"] for row in alone} == {"on", "off"}
    for row in alone:
        context = int(row["device"]) - int(row["reserved"])
        assert our_bill(case_of(row))["cuda_context"] == pytest.approx(context, rel=0.005)
    assert our_bill(case_of(FIRST[0]))["cuda_context"] == pytest.approx(CONTEXT, rel=0.03)


def misses_of_time(rows: list[Row]) -> list[float]:
    """Relative errors of the estimate, the smallest first; in float32 there is no estimate."""
    return sorted(
        abs(
            step_seconds(case_of(row), Speed(float(row["matrix_rate"]), float(row["bandwidth"])))
            / float(row["seconds"])
            - 1
        )
        for row in rows
        if row["precision"] != "fp32"
    )


def test_a_step_takes_about_the_time_that_is_estimated() -> None:
    """Of the runs with which the constants were calibrated."""
    misses = misses_of_time(FIRST)
    assert statistics.median(misses) < 0.1
    assert misses[-2] <= 0.3
    assert misses[-1] < 0.31


def test_the_time_of_captured_steps_is_estimated_well_and_that_of_others_depends_on_the_processor() -> None:
    """Of runs measured afterwards, on another computer, whose processor launched kernels more slowly."""
    captured = misses_of_time([row for row in FRESH if row["capture"] == "on"])
    assert len(captured) == 32 and statistics.median(captured) < 0.05 and captured[-1] < 0.12
    launched = misses_of_time([row for row in FRESH if row["capture"] == "off"])
    assert len(launched) == 14 and statistics.median(launched) < 0.35 and launched[-1] < 0.57
