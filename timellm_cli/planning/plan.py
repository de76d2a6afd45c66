"""Everything `inspect` says of a run, put together before any of it exists. Light."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from timellm_cli.config import Config, DataConfig
from timellm_cli.data.columns import select_columns
from timellm_cli.data.probe import Probe, probe_csv
from timellm_cli.data.source import CsvSource
from timellm_cli.datasets import data_path, description_of, known_dataset
from timellm_cli.geometry import Geometry, count_run
from timellm_cli.llm_files import NO_LLM
from timellm_cli.model.prompt import PromptText
from timellm_cli.planning.bill import Bill, largest_batch, our_bill, plain_bill
from timellm_cli.planning.case import Case
from timellm_cli.planning.llm_shape import LLMShape, look_up_llm
from timellm_cli.planning.machine import Machine
from timellm_cli.planning.preview import first_sample_statistics
from timellm_cli.planning.readiness import Check, check_readiness
from timellm_cli.planning.settle import settle
from timellm_cli.planning.tokens import TokenCount, count_tokens, typical_statistics
from timellm_cli.units import parse_memory

_NO_PROMPT = TokenCount(0, 0, exact=True, error=0.0)


@dataclass(frozen=True)
class DataSource:
    """Where the counts of rows and columns come from: a file that was probed, or what is known of the dataset."""

    path: Path
    probe: Probe | None
    rows: int
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Prompt:
    """`tokens` of our prompt, `published_tokens` of the same one with every digit, as the published code prints it.

    They and `text` are of the first training sample where that was asked for and the file is here (`is_real`), else of
    typical statistics.
    """

    tokens: TokenCount
    published_tokens: TokenCount
    text: str
    is_real: bool


@dataclass(frozen=True)
class Memory:
    """The bill against what there is. `budget` is in bytes, None where no card is known; then there is no verdict.

    `source` says whose it is: 'hardware.vram', or what is free on the card of that name or of the 'RAM'. `plain` is the
    published implementation's bill.
    """

    kind: Literal["GPU", "RAM"]
    bill: Bill
    plain: Bill | None
    budget: int | None
    source: str | None
    largest_batch: int | None

    @property
    def fits(self) -> bool | None:
        """Whether the bill is within the budget."""
        return None if self.budget is None else self.bill.total <= self.budget


@dataclass(frozen=True)
class Plan:
    """A run before it starts. `config` is settled for the hardware that is planned for.

    `shape` and `memory` are None where the LLM's size is not known; `cpu_memory` is what the run takes on this computer
    where a GPU is planned for that is not here.
    """

    config: Config
    data: DataSource
    geometry: Geometry
    shape: LLMShape | None
    layers: int
    prompt: Prompt
    memory: Memory | None
    cpu_memory: Memory | None
    checks: tuple[Check, ...]

    @property
    def ready(self) -> bool:
        """Whether nothing is missing."""
        return all(check.ok for check in self.checks)

    @property
    def tokens_per_sample(self) -> int:
        """K + P, what the LLM reads of one sample."""
        return self.prompt.tokens.total + self.geometry.patch_nums

    @property
    def tokens_per_step(self) -> int:
        """(K + P) x B, what the LLM reads in one step."""
        return self.tokens_per_sample * self.geometry.batch_size


def make_plan(config: Config, machine: Machine, read_prompt: bool) -> Plan:
    """Count, estimate and check a run on a machine; `read_prompt` reads the first training sample for its prompt.

    Raises DataError for a custom dataset without its file, or a file that cannot be used; ConfigError and ModelError
    for a prompt or layers that cannot be.
    """
    shape = look_up_llm(config.llm.name)
    data = find_data(config.data)
    geometry = count_run(data.rows, len(data.columns), known_dataset(config.data), config)
    prompt = _read_prompt(config, data, shape, read_prompt)
    here, planned = settle(config, machine, shape), settle(_prefer_gpu(config), machine, shape)
    sized = shape is not None or config.llm.name == NO_LLM
    also_cpu = sized and here.hardware.device != planned.hardware.device and config.hardware.vram is None
    return Plan(
        config=planned,
        data=data,
        geometry=geometry,
        shape=shape,
        layers=shape.used_layers(config.llm.layers) if shape else 0,
        prompt=prompt,
        memory=_weigh(planned, machine, shape, prompt, geometry) if sized else None,
        cpu_memory=_weigh(here, machine, shape, prompt, geometry) if also_cpu else None,
        checks=(*check_readiness(here, machine), *_check_positions(shape, prompt, geometry)),
    )


def find_data(data: DataConfig) -> DataSource:
    """The data of a run: its file where it is, else what is known of the dataset.

    Raises DataError for a custom dataset without a file, and for columns that are not there.
    """
    path, dataset = data_path(data), known_dataset(data)
    if path.is_file() or dataset is None:
        probe = probe_csv(path, data)
        return DataSource(path, probe, probe.rows, probe.columns)
    unread = CsvSource(dataset.name, lambda: path.open("rb"), "utf-8", ",", (data.date_column, *dataset.columns))
    return DataSource(path, None, dataset.rows, select_columns(unread, data))


def _read_prompt(config: Config, data: DataSource, shape: LLMShape | None, from_file: bool) -> Prompt:
    if config.llm.name == NO_LLM:
        return Prompt(_NO_PROMPT, _NO_PROMPT, "", is_real=False)
    description = description_of(config.data, config.prompt.description)
    ours = PromptText(config.prompt, config.window, description)
    published = PromptText(config.prompt.model_copy(update={"decimals": "all"}), config.window, description)
    sample = first_sample_statistics(data.probe, config) if from_file and data.probe else None
    statistics = sample or typical_statistics(config.window.seq_len, config.prompt.top_lags)
    counts = count_tokens(ours, statistics, shape), count_tokens(published, statistics, shape)
    return Prompt(*counts, ours.render(statistics), is_real=sample is not None)


def _prefer_gpu(config: Config) -> Config:
    """The configuration for a GPU, even one that is not here, unless the CPU is asked for."""
    return config.with_values({"hardware.device": "cuda"}) if config.hardware.device == "auto" else config


def _weigh(config: Config, machine: Machine, shape: LLMShape | None, prompt: Prompt, geometry: Geometry) -> Memory:
    """The bill of a settled configuration against the memory there is."""
    case = Case.of(config, shape, prompt.tokens.total, machine.gpu)
    budget, source = _find_budget(config, machine)
    return Memory(
        kind="GPU" if case.on_gpu else "RAM",
        bill=our_bill(case),
        plain=plain_bill(case, prompt.published_tokens.total),
        budget=budget,
        source=source,
        largest_batch=None if budget is None else largest_batch(case, budget, geometry.dataset_len),
    )


def _find_budget(config: Config, machine: Machine) -> tuple[int | None, str | None]:
    if config.hardware.device == "cpu":
        return machine.ram_free, "RAM"
    if config.hardware.vram is not None:
        return parse_memory(config.hardware.vram), "hardware.vram"
    if machine.gpu:
        return machine.gpu.free_bytes, machine.gpu.name
    return None, None


def _check_positions(shape: LLMShape | None, prompt: Prompt, geometry: Geometry) -> list[Check]:
    """An LLM has been trained for so many positions; prompt and patches must fit into them."""
    needs = prompt.tokens.total + geometry.patch_nums
    if shape is None or needs <= shape.max_positions:
        return []
    return [
        Check(
            "prompt", False, f"{needs:,} tokens a sample, but {shape.name} has {shape.max_positions:,} positions",
            "shorten prompt.description, or use fewer patches: a larger --patch-stride or a smaller --seq-len",
        )
    ]  # fmt: skip
