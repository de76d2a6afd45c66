"""The day map in the memory bill: equal to the tensors of a real one, and what reading its lines takes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.planning.cases import known_shape, step
from tests.planning.day_table import write_table
from tests.planning.live_bytes import LiveBytes
from tests.planning.test_activation_bytes import SavedByAutograd
from timellm_cli.config import Config
from timellm_cli.data.windows import load_data
from timellm_cli.model.day_map import DayMap
from timellm_cli.model.day_reader import add_day_map
from timellm_cli.model.line_reader import _pooled, _reading_config
from timellm_cli.model.load import load_llm, load_model
from timellm_cli.planning.case import Case
from timellm_cli.planning.day_map_bytes import activations, fixed, reader_bytes, reading_bytes
from timellm_cli.planning.days_case import DaysCase
from timellm_cli.planning.duration import Speed, epoch_time, reading_seconds
from timellm_cli.planning.hardware import Machine, find_card
from timellm_cli.planning.memory_bill import largest_batch, our_bill, scoring_bill
from timellm_cli.planning.plan import make_plan
from timellm_cli.planning.prompt_tokens import TokenCount, count_longest
from timellm_cli.planning.weight_bytes import trainable_tensors
from timellm_cli.units import GIB

BATCH, ROWS, STEPS, LINES = 5, 60, 11, 33
KINDS = {"text": (50, 20, 0), "columns": (0, 0, 3), "both": (50, 20, 3), "more mixes than directions": (50, 2, 1)}
CHANNELS = {"starts from nothing": 0, "one channel": 1, "five channels": 5}


def case_of(kind: str, channels: int = 0, **changes: object) -> Case:
    """A step without an LLM whose day map knows 33 lines, or three columns."""
    vector, mixes, columns = KINDS[kind]
    days = DaysCase(slots=8, vector=vector, mixes=mixes, columns=columns, rank=4, lines=LINES, tokens=9)
    days = replace(days, channels=channels)
    values = {"batch": BATCH, "seq_len": ROWS, "pred_len": STEPS, "days": days, "on_gpu": False, "precision": "fp32"}
    return step(None, **{**values, **changes})


def day_map_of(case: Case) -> DayMap:
    assert case.days is not None
    day_map = DayMap(case.days.sizes(case.seq_len))
    day_map.set_lines(torch.randn(LINES, case.days.vector))
    return day_map


def inputs_of(case: Case) -> tuple[torch.Tensor, ...]:
    """What is known of the horizon, as `AheadBatch` has it."""
    assert case.days is not None
    size = (case.batch, case.pred_len)
    lines, slots = torch.randint(0, LINES, size), torch.randint(0, 8, size)
    week = torch.randint(0, 56, (case.batch, case.seq_len))
    return lines, slots, week, torch.randn(*size, case.days.columns)


@pytest.mark.parametrize("channels", CHANNELS.values(), ids=CHANNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_stays_is_what_a_day_map_holds(kind: str, channels: int) -> None:
    case = case_of(kind, channels)
    day_map = day_map_of(case)
    counted = {name: size for name, size in trainable_tensors(case).items() if name.startswith("day map")}
    assert sorted(counted.values()) == sorted(weight.numel() for weight in day_map.parameters())
    assert fixed(case).bytes == sum(buffer.nbytes for buffer in day_map.buffers())


@pytest.mark.parametrize("rows", [60, 20], ids=["a week of history", "less than a week"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_step_keeps_is_what_autograd_saves_and_the_inputs(kind: str, rows: int) -> None:
    case = case_of(kind, seq_len=rows)
    day_map, scaled_BT, inputs = day_map_of(case), torch.randn(BATCH, rows), inputs_of(case)
    with SavedByAutograd(day_map) as saved:
        day_map(scaled_BT, *inputs)
    own = {tensor.untyped_storage().data_ptr(): tensor.nbytes for tensor in inputs}
    kept = sum(tensor.untyped_storage().nbytes() for place, tensor in saved._kept.items()
               if place not in saved._weights and place not in own)  # fmt: skip
    # A line's number is an input where there is no text, too; raw columns are, and standardised ones are kept.
    assert activations(case).bytes == kept + sum(own.values())


def test_a_run_that_knows_nothing_ahead_has_no_day_map_in_its_bill() -> None:
    bill = our_bill(step(known_shape("Qwen/Qwen2.5-3B")))
    assert not {"day_map", "day_map_activations", "reading"} & {part.key for part in bill.parts}
    assert Case.of(Config(), None, TokenCount(0, 0, True, 0.0), None).days is None


def read_config(tiny_llm: Path, **ahead: object) -> Config:
    return Config.model_validate(
        {
            "llm": {"name": "none"},
            "ahead": {"weekday_text": "weekday", "llm": str(tiny_llm), **ahead},
            "hardware": {"device": "cpu", "capture": "off", "recompute": "off"},
            "train": {"precision": "fp32"},
        }
    ).with_values({"llm.quantization": "none"})


def test_the_llm_that_reads_the_lines_takes_what_its_tensors_do(tiny_llm: Path) -> None:
    config = read_config(tiny_llm, layers=2)
    case = Case.of(config, None, TokenCount(0, 0, True, 0.0), None)
    reading = _reading_config(config, torch.device("cpu"))
    llm = load_llm(reading, tiny_llm, torch.device("cpu"), None)
    frequencies = llm.get_buffer("frequencies").nbytes  # a few bytes, in no bill
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in (llm.embedding.table_VE, *llm.buffers())}
    assert reader_bytes(case) == sum(tensors.values()) - frequencies


def test_reading_takes_the_reader_and_at_most_what_is_counted_for_its_layers(tiny_llm: Path) -> None:
    config = read_config(tiny_llm, layers=2)
    texts = [f"Monday: sale number {number % 10}." for number in range(40)]
    llm = load_llm(_reading_config(config, torch.device("cpu")), tiny_llm, torch.device("cpu"), None)
    with LiveBytes() as live:
        vectors = _pooled(texts, llm, tiny_llm, torch.device("cpu"))
    case = Case.of(config, None, TokenCount(0, 0, True, 0.0), None)
    assert case.days is not None
    assert case.days.reader is not None
    tokens = count_longest(texts, case.days.reader)
    case = replace(case, days=replace(case.days, lines=40, tokens=tokens))
    own = 4 * sum(trainable_tensors(case).values())
    working = reading_bytes(case) - own - reader_bytes(case)
    # A CPU's plain operations need more in between than the fused ones that are counted; the vectors stay.
    assert live.peak - sum(vector.nbytes for vector in vectors) == pytest.approx(working, rel=0.25)


def test_reading_stands_in_the_bill_where_it_takes_more_than_the_rest_and_no_batch_is_smaller_for_it() -> None:
    qwen = known_shape("Qwen/Qwen2.5-3B")
    days = DaysCase(24, 2048, 64, 0, 8, 500, 20, qwen, 36, reader_is_decoder=True)
    plain, reads = our_bill(step(qwen, layers=6)), our_bill(step(qwen, layers=6, days=days))
    assert reads["reading"] > 4 * GIB
    assert reads.total == reads.without_reading + reads["reading"]
    assert reads.without_reading - plain.total < 0.01 * plain.total
    budget = 8 * GIB
    assert largest_batch(step(qwen, days=days), budget, 5000) >= 0.97 * largest_batch(step(qwen), budget, 5000)
    read_before = replace(days, reader=None)
    assert our_bill(step(qwen, layers=6, days=read_before))["reading"] == 0
    assert scoring_bill(step(qwen, days=days))["day_map"] == fixed(step(qwen, days=days)).bytes


def test_the_time_of_an_epoch_has_the_day_map_and_that_of_reading_stands_beside_it() -> None:
    qwen, card = known_shape("Qwen/Qwen2.5-3B"), find_card("RTX 4090")
    days = DaysCase(24, 2048, 64, 0, 8, 500, 20, qwen, 36, reader_is_decoder=True)
    plain, known = (
        epoch_time(step(qwen, captured=True, decoder=True, days=one), card, 100, 1000) for one in (None, days)
    )
    assert plain is not None
    assert known is not None
    assert plain.step < known.step < 1.1 * plain.step
    assert (plain.reading, known.reading > 0) == (0.0, True)
    twice = step(qwen, days=replace(days, lines=1000))
    assert reading_seconds(twice, Speed.of(card)) == pytest.approx(2 * known.reading, rel=0.05)


@pytest.mark.parametrize("shortcut", ["linear", "fitted"])
@pytest.mark.parametrize("reader", ["llm", "columns"])
def test_inspect_counts_the_day_map_that_training_makes(
    reader: str, shortcut: str, tiny_llm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMELLM_CACHE", str(tmp_path))
    config = write_table(tmp_path, tiny_llm, reader).with_values({"model.shortcut": shortcut})
    plan = make_plan(config, Machine(None, 8 * GIB, torch_has_cuda=False), from_file=False)
    assert plan.memory is not None
    runner = load_model(config, torch.device("cpu"))
    add_day_map(runner, load_data(config), config)
    day_map = runner.model.day_map
    assert day_map is not None
    assert plan.ahead is not None
    assert plan.ahead.case is not None
    assert plan.ahead.case.sizes(config.window.seq_len) == day_map.sizes
    assert plan.memory.bill["day_map"] == sum(buffer.nbytes for buffer in day_map.buffers())
    weights = sum(weight.numel() for weight in runner.model.trainable_weights().values())
    assert plan.memory.bill["trainable_weights"] == 4 * weights
    assert runner.lines_read == (len(day_map.lines_LK) if reader == "llm" else 0)
    built = DaysCase.built(config, day_map.sizes, len(day_map.lines_LK), reads=runner.lines_read > 0)
    assert built is not None
    assert replace(built, tokens=0) == replace(plan.ahead.case, tokens=0)
