"""Everything that `inspect` says of a run, and the same for several values of one key. Light."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from timellm_cli.config import FIELDS, Config, DataConfig
from timellm_cli.counts import RunCounts, count_run
from timellm_cli.data.columns import select_columns
from timellm_cli.data.csv_format import CsvFormat
from timellm_cli.datasets import data_path, known_dataset
from timellm_cli.errors import ConfigError, DataError, TimellmError, did_you_mean
from timellm_cli.planning.automatic import resolve_auto
from timellm_cli.planning.case import Case
from timellm_cli.planning.code_path import CodePath, find_code_path
from timellm_cli.planning.day_map_bytes import reader_bytes
from timellm_cli.planning.days_ahead import DaysAhead, look_ahead
from timellm_cli.planning.days_case import DaysCase
from timellm_cli.planning.duration import EpochTime, epoch_time
from timellm_cli.planning.hardware import Card, Machine, recognise
from timellm_cli.planning.llm_shape import LLMShape, look_up_llm
from timellm_cli.planning.memory_bill import Memory, Saving, find_savings, is_sized, weigh
from timellm_cli.planning.prompt_tokens import Prompt, read_prompt
from timellm_cli.planning.readiness import Check, check_readiness
from timellm_cli.planning.shared import USUAL_NETWORK, Shared, part_of_batch, share, whole_batch
from timellm_cli.splits import Series, note_on_short, split_series

if TYPE_CHECKING:
    from timellm_cli.data.rows import Rows
    from timellm_cli.data.table import Table


MOST_ROWS = 5_000_000
"""So many rows of a file are read, which takes a second; those beyond are only counted."""


@dataclass(frozen=True)
class DataSource:
    """Where the counts of rows and columns come from: the file, or what is known of the dataset.

    `read` is None without the file. `fault` is the error with which training would refuse the file; then `read` has the
    rows as they are. `unread` counts the rows beyond the first MOST_ROWS, which were not looked at. `found` are
    notes on the settings.
    """

    path: Path
    read: "Table | Rows | None"
    series: Series
    columns: tuple[str, ...]
    unread: int = 0
    fault: DataError | None = None
    found: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of all series."""
        return self.series.total

    @property
    def table(self) -> "Table | None":
        """The file as training would read it; None without the file, or where it would be refused."""
        return None if self.fault else self.read  # type: ignore[return-value]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found in the file and is worth knowing."""
        return (*self.found, *(self.read.notes if self.read else ()))


@dataclass(frozen=True)
class Plan:
    """A run before it starts. `config` is resolved for the hardware that is planned for.

    `shape` and `memory` are None where the LLM's size is not known; `cpu_memory` is what the run takes on this computer
    where a GPU is planned for that is not here. `time` is None without a card whose speed is known. `ahead` is what is
    known of the days ahead, and `reader_bytes` the LLM that reads its text, 0 where none does or its size is not known.
    With several processes, memory is that of one, `shared` says what they do, and counts are
    of the whole batch. `savings` are there where the run does not fit, or was to be explained, and a budget is known.
    """

    config: Config
    data: DataSource
    counts: RunCounts
    shape: LLMShape | None
    layers: int
    path: CodePath
    prompt: Prompt
    memory: Memory | None
    cpu_memory: Memory | None
    time: EpochTime | None
    savings: tuple[Saving, ...]
    checks: tuple[Check, ...]
    ahead: DaysAhead | None = None
    reader_bytes: int = 0
    shared: Shared | None = None

    @property
    def ready(self) -> bool:
        """Whether nothing is missing."""
        return all(check.ok for check in self.checks)

    @property
    def tokens_per_sample(self) -> int:
        """K + P, what the LLM reads of one sample."""
        return self.prompt.tokens.total + self.counts.patch_nums

    @property
    def tokens_per_step(self) -> int:
        """(K + P) x B, what the LLM reads in one step."""
        return self.tokens_per_sample * self.counts.batch_size


def make_plan(
    config: Config,
    machine: Machine,
    from_file: bool,
    card: Card | None = None,
    explain: bool = False,
    notes: tuple[str, ...] = (),
    processes: int = 1,
    network: str = USUAL_NETWORK,
) -> Plan:
    """Count, estimate and check a run on a machine; `from_file` reads the first training sample for its prompt.

    With `card` the run is planned for that card, which need not be here, and `hardware.vram` is of no account. Raises
    DataError for a custom dataset without its file, or a file that cannot be used; ConfigError for a prompt that cannot
    be; ModelError for an LLM whose configuration cannot be read. `explain` weighs what would need less memory as well.
    `notes` are those on the settings. `network` is the slowest link between the `processes` that share each batch.
    """
    shape, data = look_up_llm(config.llm.name), _find_data(config, notes)
    prompt = read_prompt(config, shape, data.table if from_file else None)
    planned_for, machine = _machine_for(machine, card).of_several(processes), machine.of_several(processes)
    part = part_of_batch(config, processes)
    here, planned = resolve_auto(part, machine, shape), resolve_auto(_planned_for(part, card), planned_for, shape)
    whole = whole_batch(planned, config, processes)
    planned = planned.with_values({"train.accumulate": whole.train.accumulate}) if processes > 1 else planned
    counts = count_run(data.series, len(data.columns), known_dataset(config.data), whole)
    days = ahead.case if (ahead := look_ahead(data.table, planned)) else None
    sized, may_recompute = is_sized(config, shape), config.hardware.recompute == "auto"
    memory = weigh(planned, planned_for, shape, prompt, counts.dataset_len, may_recompute, days) if sized else None
    also_cpu = sized and here.hardware.device != planned.hardware.device
    savings = _savings(memory, explain, planned, planned_for, counts.dataset_len, days)
    time = _estimate_time(planned, planned_for, shape, prompt, counts, days) if sized else None
    case = Case.of(planned, shape, prompt.tokens, planned_for.gpu, days) if sized else None
    shared = share(case, processes, network, time, counts.steps_per_epoch) if case and processes > 1 else None
    return Plan(
        config=whole,
        data=data,
        counts=counts,
        shape=shape,
        layers=shape.used_layers(config.llm.layers) if shape else 0,
        path=find_code_path(planned, shape),
        prompt=prompt,
        memory=memory,
        cpu_memory=weigh(here, machine, shape, prompt, counts.dataset_len, days=days) if also_cpu else None,
        time=shared.together if shared else time,
        savings=savings,
        ahead=ahead,
        reader_bytes=reader_bytes(case) if case else 0,
        checks=tuple(_check_rows(check, data) for check in check_readiness(here, machine, planned, planned_for)),
        shared=shared,
    )


def _find_data(config: Config, notes: tuple[str, ...]) -> DataSource:
    """The run's data, with notes on settings and series."""
    data = find_data(config.data)
    return replace(data, found=(*notes, *_notes_on_series(data.series, config)))


def _savings(
    memory: Memory | None, explain: bool, config: Config, machine: Machine, samples: int, days: DaysCase | None
) -> tuple[Saving, ...]:
    """What would need less memory, where a step does not fit or the user asks."""
    if memory is None or memory.budget is None or (memory.fits and not explain):
        return ()
    return tuple(find_savings(config, machine, look_up_llm(config.llm.name), samples, days))


def _machine_for(machine: Machine, card: Card | None) -> Machine:
    """This computer with that card."""
    return replace(machine, gpu=card.gpu, torch_has_cuda=True) if card else machine


def _notes_on_series(series: Series, config: Config) -> list[str]:
    """What is to be said of the series of a panel."""
    if not series.is_panel:
        return []
    return note_on_short(series, split_series(series, None, config.data, config.window), config.window)


def _estimate_time(
    config: Config,
    machine: Machine,
    shape: LLMShape | None,
    prompt: Prompt,
    counts: RunCounts,
    days: DaysCase | None,
) -> EpochTime | None:
    """The time of an epoch on the card of a machine; None where its speed is not known."""
    card = recognise(machine.gpu.name) if machine.gpu else None
    if card is None:
        return None
    case = Case.of(config, shape, prompt.tokens, machine.gpu, days)
    return epoch_time(case, card, counts.steps_per_epoch, counts.val.samples + counts.test.samples)


def _check_rows(check: Check, data: DataSource) -> Check:
    """The check of the data, failed where training would refuse the file."""
    if check.name != "data":
        return check
    if data.fault is not None:
        return Check("data", False, data.fault.message, data.fault.hint)
    if data.unread:
        return replace(check, detail=f"{check.detail} (rows 1 to {MOST_ROWS:,} of {data.rows:,} were read)")
    return check


def find_data(data: DataConfig) -> DataSource:
    """The data of a run: its file where it is, else what is known of the dataset.

    Raises DataError for a custom dataset without a file, and for columns and cells that cannot be used.
    """
    path, dataset = data_path(data), known_dataset(data)
    if not path.exists() and dataset is not None:
        header = (data.date_column, *dataset.columns)
        unread = CsvFormat(dataset.name, None, io.BytesIO, "utf-8", ",", header, 0, 1)
        return DataSource(path, None, Series.single(dataset.rows), select_columns(unread, data))
    from timellm_cli.data.panel import series_of
    from timellm_cli.data.read_table import table_of
    from timellm_cli.data.sources import read_source

    # A panel is read whole: its last rows are those of other series.
    rows = read_source(path, data, most_rows=MOST_ROWS if data.id_column is None else None)
    is_panel = rows.series is not None
    columns, beyond = tuple(rows.frame.columns), 0
    if not is_panel and len(rows.stamps) == MOST_ROWS:
        beyond = rows.csv.count_rows() - MOST_ROWS
    try:
        table = table_of(rows, data)
    except DataError as fault:
        series = series_of(rows) if is_panel else Series.single(len(rows.stamps) + beyond)
        return DataSource(path, rows, series, columns, beyond, fault)
    series = table.series if is_panel else Series.single(len(table.stamps) + beyond)
    return DataSource(path, table, series, columns, beyond)


def _planned_for(config: Config, card: Card | None) -> Config:
    """The configuration for the card that is named, or for a GPU of `hardware.vram`; else for what is here."""
    if card:
        return config.with_values({"hardware.device": "cuda", "hardware.vram": None})
    asks_for_gpu = config.hardware.device == "auto" and config.hardware.vram is not None
    return config.with_values({"hardware.device": "cuda"}) if asks_for_gpu else config


@dataclass(frozen=True)
class Swept:
    """One value with its plan, or with the fault that keeps it from having one."""

    value: str
    plan: Plan | None
    fault: str = ""


def parse_sweep(text: str) -> tuple[str, list[str]]:
    """Key and values of 'batch_size=4,8,16'; the key with its section, or without where one section alone has it.

    Raises ConfigError for anything else.
    """
    name, equals, values = text.partition("=")
    listed = [value.strip() for value in values.split(",") if value.strip()]
    if not equals or not listed:
        raise ConfigError(f"--sweep {text}: no values", "write a key with its values: --sweep batch_size=4,8,16")
    name = name.strip().lstrip("-").replace("-", "_")
    found = [name] if name in FIELDS else [key for key in FIELDS if key.split(".")[1] == name]
    if len(found) == 1:
        return found[0], listed
    if found:
        raise ConfigError(f"--sweep {name}: several sections have that key", f"write one of {', '.join(found)}")
    known = [*FIELDS, *(key.split(".")[1] for key in FIELDS)]
    raise ConfigError(
        f"--sweep {name}: no such key{did_you_mean(name, known)}",
        "`timellm profiles show NAME` lists every key",
    )


def plan_swept(config: Config, key: str, value: str, make: Callable[[Config], Plan]) -> Swept:
    """The plan for one value of a key. Raises ConfigError for one that the key cannot have."""
    try:
        changed = config.with_values({key: value})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--sweep {key}={value}: {fault[0].lower()}{fault[1:]}", "leave that value out") from None
    try:
        return Swept(value, make(changed))
    except TimellmError as error:
        return Swept(value, None, error.message)
