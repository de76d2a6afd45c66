"""The whole plan, counted from the file or from what is known, weighed for a card; and a sweep of such plans."""

import io
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from rich.console import Console

from timellm_cli.config import FIELDS, Config, DataConfig
from timellm_cli.config_fields import nest
from timellm_cli.data.read_table import read_table
from timellm_cli.errors import ConfigError, DataError, TimellmError
from timellm_cli.planning.hardware import Gpu, Machine
from timellm_cli.planning.plan import Plan, find_data, make_plan, parse_sweep, plan_swept
from timellm_cli.report.inspect_explain import explanation
from timellm_cli.report.inspect_json import plan_record
from timellm_cli.report.inspect_tables import plan_tables, shown_prompt
from timellm_cli.units import GIB

CPU_ONLY = Machine(gpu=None, ram_free=12 * GIB, torch_has_cuda=False)
T4 = Machine(Gpu("Tesla T4", 15 * GIB, 14 * GIB, (7, 5)), 12 * GIB, torch_has_cuda=True)


def plan(machine: Machine = CPU_ONLY, read_prompt: bool = False, **sections: dict[str, Any]) -> Plan:
    return make_plan(Config.model_validate(sections), machine, read_prompt)


def test_a_known_dataset_is_counted_without_its_file() -> None:
    known = plan()
    assert known.data.read is None
    assert (known.data.rows, len(known.data.columns), known.counts.dataset_len) == (69_680, 7, 237_671)


def test_the_file_is_counted_where_it_is(small_csv: Path) -> None:
    custom = plan(data={"dataset": "custom", "path": str(small_csv)}, window={"seq_len": 48, "pred_len": 12})
    assert custom.data.read is not None
    assert (custom.data.rows, custom.data.columns) == (400, ("load", "OT"))
    # 280 rows train: 280 - 48 - 12 + 1 windows of 2 channels
    assert custom.counts.dataset_len == 221 * 2


def test_a_custom_dataset_without_its_file_cannot_be_counted() -> None:
    with pytest.raises(DataError, match=r"absent\.csv"):
        plan(data={"dataset": "custom", "path": "absent.csv"})


def test_a_column_that_a_known_dataset_does_not_have_is_refused_without_its_file() -> None:
    with pytest.raises(DataError, match=r"'OTT' not found.*did you mean 'OT'"):
        plan(data={"columns": ("HUFL", "OTT"), "target": "HUFL"})


def test_chosen_columns_are_the_channels() -> None:
    chosen = plan(data={"columns": ("HUFL", "OT")})
    assert (chosen.counts.channels, chosen.data.columns) == (2, ("HUFL", "OT"))
    assert plan(data={"features": "S"}).data.columns == ("OT",)


def test_where_no_card_is_here_or_named_the_plan_is_for_the_cpu() -> None:
    here = plan()
    assert here.memory is not None and here.cpu_memory is None
    assert (here.memory.kind, here.memory.source, here.memory.fits) == ("RAM", "RAM", True)
    assert (here.config.hardware.device, here.config.train.precision) == ("cpu", "fp32")


def test_for_a_card_that_nobody_knows_the_bill_has_no_verdict() -> None:
    unknown = plan(hardware={"device": "cuda"})
    assert unknown.cpu_memory is None
    assert unknown.memory is not None
    assert (unknown.memory.kind, unknown.memory.budget, unknown.memory.fits) == ("GPU", None, None)
    assert unknown.memory.largest_batch is None


def test_memory_to_plan_for_gives_a_verdict() -> None:
    small, smaller = plan(hardware={"vram": "6GiB"}), plan(hardware={"vram": "900MiB"})
    assert small.memory is not None and smaller.memory is not None
    assert (small.memory.fits, small.memory.source) == (True, "hardware.vram")
    assert small.cpu_memory is not None and small.cpu_memory.source == "RAM", "the run would start on the CPU"
    assert (smaller.memory.fits, smaller.memory.largest_batch) == (False, 0)


def test_the_largest_batch_may_compute_layers_again_where_that_is_left_to_us() -> None:
    left = plan(hardware={"vram": "6GiB"}).memory
    on, off = (plan(hardware={"vram": "6GiB", "recompute": choice}).memory for choice in ("on", "off"))
    assert left is not None and on is not None and off is not None
    assert (left.largest_keeping, left.largest_batch) == (off.largest_batch, on.largest_batch)
    assert off.largest_batch < on.largest_batch  # type: ignore[operator]
    assert (on.largest_keeping, off.largest_keeping) == (None, None)
    other = plan(hardware={"vram": "6GiB"}, llm={"name": "gpt2"}).memory
    assert other is not None and other.largest_keeping is None


def test_a_card_that_is_here_gives_its_free_memory_and_its_precision() -> None:
    here = plan(T4)
    assert here.memory is not None
    assert (here.memory.budget, here.memory.source) == (14 * GIB, "Tesla T4")
    assert (here.config.train.precision, here.config.hardware.device) == ("fp16", "cuda")
    assert here.cpu_memory is None


def test_on_a_cpu_the_ram_is_the_budget() -> None:
    on_cpu = plan(T4, hardware={"device": "cpu", "vram": "6GiB"})
    assert on_cpu.memory is not None
    assert (on_cpu.memory.kind, on_cpu.memory.budget, on_cpu.memory.source) == ("RAM", 12 * GIB, "RAM")
    assert on_cpu.memory.bill["process"] > 0


def test_the_model_without_an_llm_has_a_bill_and_no_prompt() -> None:
    ablation = plan(llm={"name": "none"})
    assert ablation.memory is not None
    assert (ablation.shape, ablation.prompt.tokens.total, ablation.memory.plain) == (None, 0, None)
    assert ablation.tokens_per_step == ablation.counts.patches_per_step == 512


def test_an_llm_of_unknown_size_has_no_bill_but_all_counts() -> None:
    unknown = plan(llm={"name": "Qwen/Qwen9-1T"})
    assert (unknown.memory, unknown.cpu_memory) == (None, None)
    assert unknown.counts.steps_per_epoch == 29_708
    assert not unknown.ready


def test_a_prompt_that_exceeds_the_llms_positions_is_not_ready() -> None:
    checks = plan(llm={"name": "gpt2"}, prompt={"description": "many words " * 800}).checks
    (too_long,) = [check for check in checks if check.name == "prompt"]
    assert not too_long.ok
    assert "1,024 positions" in too_long.detail


def test_the_prompt_is_the_first_samples_only_where_it_is_asked_for(shared_dir: Path) -> None:
    path = str(shared_dir / "data" / "ETT-small" / "ETTh1.csv")
    data = {"dataset": "ETTh1", "path": path}
    asked, not_asked = plan(read_prompt=True, data=data), plan(data=data)
    assert asked.prompt.is_real and not not_asked.prompt.is_real
    assert asked.prompt.text != not_asked.prompt.text


def test_the_published_prompt_is_longer_because_it_prints_every_digit() -> None:
    usual, exact = plan().prompt, plan(prompt={"decimals": "all"}).prompt
    assert usual.published_tokens.total > usual.tokens.total + 30
    assert exact.published_tokens == exact.tokens == usual.published_tokens


def test_a_file_of_more_rows_than_are_read_says_which_were(small_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timellm_cli.planning.plan.MOST_ROWS", 300)
    custom = {"dataset": "custom", "path": small_csv}
    data = find_data(DataConfig.model_validate(custom))
    assert (data.rows, data.unread) == (400, 100)
    planned = plan(data=custom, window={"seq_len": 48, "pred_len": 12}, llm={"name": "none"})
    (check,) = [check for check in planned.checks if check.name == "data"]
    assert check.ok and "rows 1 to 300 of 400" in check.detail


@pytest.mark.parametrize(("spoil", "words"), [((200, None), "a gap"), ((200, "x"), "'x' is no number")])
def test_a_fault_in_the_middle_of_the_file_is_what_training_would_say(
    small_csv: Path, spoil: tuple[int, str | None], words: str
) -> None:
    lines, (row, cell) = small_csv.read_text(encoding="utf-8").splitlines(), spoil
    lines[row : row + 1] = [] if cell is None else [lines[row].rsplit(",", 1)[0] + f",{cell}"]
    small_csv.write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = DataConfig(dataset="custom", path=small_csv)
    fault = find_data(data).fault
    assert fault is not None and words in fault.message
    with pytest.raises(DataError) as refused:
        read_table(small_csv, data)
    assert refused.value.message == fault.message


def plan_of(config: Config) -> Plan:
    return make_plan(config, CPU_ONLY, from_file=False)


@pytest.mark.parametrize("name", ["batch_size", "train.batch_size", "batch-size", "--batch-size"])
def test_a_key_is_found_by_its_own_name(name: str) -> None:
    assert parse_sweep(f"{name}=4, 8,16") == ("train.batch_size", ["4", "8", "16"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch_size", "no values"),
        ("batch_size=", "no values"),
        ("name=a,b", "several sections"),
        ("batchsize=4", "did you mean 'batch_size'"),
    ],
)
def test_what_is_no_sweep_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_sweep(text)


def test_each_value_has_the_plan_it_has_alone() -> None:
    config = Config.model_validate({"hardware": {"vram": "6GiB"}})
    for value in ("4", "16"):
        line = plan_swept(config, "train.batch_size", value, plan_of)
        alone = plan_of(config.with_values({"train.batch_size": int(value)}))
        assert line.plan is not None
        # the free disk may have changed meanwhile
        assert replace(line.plan, checks=()) == replace(alone, checks=())


def test_a_value_that_no_data_are_enough_for_is_a_line_and_a_wrong_one_an_error() -> None:
    fits, too_long = (plan_swept(Config(), "window.seq_len", value, plan_of) for value in ("96", "100000"))
    assert fits.plan is not None and not fits.fault
    assert too_long.plan is None and "too few rows" in too_long.fault
    with pytest.raises(ConfigError, match="batch_size=0: input should be greater"):
        plan_swept(Config(), "train.batch_size", "0", plan_of)


NUMBERS = [key for key, field in FIELDS.items() if "int" in str(field.annotation)]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(NUMBERS), st.integers(0, 600) | st.integers(0, 2**54), max_size=4))
def test_no_number_breaks_a_plan_or_its_tables(values: dict[str, int]) -> None:
    with suppress(ValidationError, TimellmError):
        made = make_plan(Config.model_validate(nest(values)), CPU_ONLY, from_file=False, explain=True)
        console = Console(file=io.StringIO(), width=60)
        console.print(plan_tables(made), explanation(made), shown_prompt(made))
        json.dumps(plan_record(made), allow_nan=False)


@pytest.mark.parametrize("experts", ["num_local_experts", "num_experts", "n_routed_experts"])
def test_a_mixture_of_experts_has_no_verdict(tmp_path: Path, experts: str) -> None:
    keys = {"model_type": "mixtral", "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 257, experts: 8}
    (tmp_path / "config.json").write_text(json.dumps(keys), encoding="utf-8")
    planned = plan(llm={"name": str(tmp_path)})
    assert (planned.memory, planned.shape) == (None, None)
