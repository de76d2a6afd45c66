"""What is measured, and its runs, step by step: the plain path, ours as users get it, and the steps between them.

Not a script: `throughput.py`, `memory.py`, `out_of_memory.py`, `same_model.py` and `quickstart.py` use it.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from plain import PlainTimeLLM, PlainTraining
from random_llm import RandomLLM, standing_in_for_files
from torch import Tensor

from timellm_cli.config import Config
from timellm_cli.counts import count_patches
from timellm_cli.data.batch import PromptTokens
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.datasets import description_of
from timellm_cli.llm_files import NO_LLM
from timellm_cli.model.cuda_graphs import forget_recordings
from timellm_cli.model.load import load_model
from timellm_cli.model.prompt import PromptText
from timellm_cli.model.prompt_tokens import NoPromptEncoder, PromptEncoder, load_tokenizer
from timellm_cli.model.runner import Runner
from timellm_cli.processes.group import Group
from timellm_cli.settings import resolve
from timellm_cli.training.loop import Trainer
from timellm_cli.training.records import StepFinished
from timellm_cli.training.run_directory import RunDirectory
from timellm_cli.training.state import seed_everything


@dataclass(frozen=True)
class Variant:
    """One way to train the same model.

    `settings` are configuration values by their key.
    """

    name: str
    is_plain: bool = False
    compact_mapping: bool = True
    published: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


def _ours(capture: str = "on", recompute: str = "off", implementation: str = "auto", **more: Any) -> dict[str, Any]:
    return {
        "hardware.capture": capture, "hardware.recompute": recompute, "llm.implementation": implementation,
        "hardware.prepared": False, **more,
    }  # fmt: skip


TORCH, NVRTC = {"hardware.kernels": "torch"}, {"hardware.kernels": "nvrtc"}

VARIANTS = {
    "published": Variant(
        "plain, keeps attention maps, prints all digits",
        is_plain=True,
        compact_mapping=False,
        published=True,
        settings={"prompt.decimals": "all"},
    ),
    "plain": Variant("plain", is_plain=True, compact_mapping=False),
    "compact": Variant("+ compact mapping", is_plain=True),
    "two-passes": Variant(
        "+ no gradient for prompt",
        settings=_ours("off", implementation="transformers", **{"hardware.keep_prefix": False}),
    ),
    "prefix-once": Variant("+ prefix read once", settings=_ours("off", implementation="transformers")),
    "decoder": Variant("+ our decoder, torch's kernels", settings=_ours("off", **TORCH)),
    "captured": Variant("+ captured", settings=_ours(**TORCH)),
    "nvrtc": Variant("+ captured, NVRTC's kernels", settings=_ours(**NVRTC)),
    "triton": Variant("+ Triton ops", settings=_ours()),
    "triton-eager": Variant("Triton ops, not captured", settings=_ours("off")),
    "triton-recompute": Variant("+ recompute", settings=_ours(recompute="on")),
    "ours": Variant("ours", settings=_ours()),
    "ours-recompute": Variant("ours, recompute", settings=_ours(recompute="on")),
    "ours-16": Variant("ours, not quantised", settings=_ours(**{"llm.quantization": "none"})),
}
LADDER = (
    "published", "plain", "compact", "two-passes", "prefix-once", "decoder", "captured", "triton", "triton-recompute",
    "triton-eager",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One row of the table. `cap` are the bytes that the process may take of the GPU, its context included.

    `settings` are configuration values by their key, over those of the variant.
    """

    part: str
    variant: str
    shape: str
    layers: int
    batch: int
    quantization: str = "nf4"
    seq_len: int = 512
    cap: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


class Run(Protocol):
    """Something that trains."""

    def step(self) -> float:
        """Take one step; returns its loss."""

    def close(self) -> None:
        """End it."""


class WatchedEncoder:
    """Encodes like another encoder, and remembers the length of each batch's prefix and of its longest prompt."""

    def __init__(self, encoder: PromptEncoder | NoPromptEncoder) -> None:
        self.inner, self.prefix = encoder, encoder.prefix
        self.prompts: list[tuple[int, int]] = []

    def encode(self, history_BT: Tensor, series: Sequence[str] = ()) -> PromptTokens:
        """The other encoder's prompts."""
        prompt = self.inner.encode(history_BT, series)
        self.prompts.append((len(prompt.prefix), prompt.length))
        return prompt


class ProjectTraining:
    """The project's own loop: its loader, its step, its optimizer. A step ends when its record comes."""

    def __init__(self, config: Config, data: ForecastData, runner: Runner, group: Group | None = None) -> None:
        self.runner, self.data = runner, data
        self._watched = runner.encoder = WatchedEncoder(runner.encoder)
        self.trainer = Trainer(config, data, runner, RunDirectory.of(config), group=group)
        self._records = iter(self.trainer.run())

    def watch_prompts(self) -> "WatchedEncoder":
        """The encoder, which remembers the lengths of the prompts."""
        return self._watched

    def step(self) -> float:
        """Take one step; returns its loss."""
        return next(record.loss for record in self._records if isinstance(record, StepFinished))

    def close(self) -> None:
        """End it."""
        self._records.close()  # type: ignore[attr-defined]


class Workplace:
    """The folder of a call (`ett.csv`, an LLM folder for each shape) and the device; starts the run of any job."""

    def __init__(self, folder: Path, device: torch.device, precision: str) -> None:
        self.folder, self.device, self.precision = folder, device, precision
        self._llms: dict[str, RandomLLM] = {}

    def llm(self, shape: str) -> RandomLLM:
        """The LLM of a shape, drawn once."""
        if shape not in self._llms:
            self._llms[shape] = RandomLLM(shape, self.device)
        return self._llms[shape]

    def config(self, job: Job) -> Config:
        """The profile `ettm1-qwen3b-6gb` with what the job changes."""
        values = {
            "data.path": self.folder / "ett.csv", "window.seq_len": job.seq_len,
            "llm.name": str(self.folder / job.shape), "llm.layers": job.layers, "llm.quantization": job.quantization,
            "train.batch_size": job.batch, "train.precision": self.precision, "train.epochs": 1000,
            "hardware.device": self.device.type, "hardware.vram": None, "run.directory": self.folder / "runs",
            "run.name": "run", "run.save_steps": 0, "run.log_steps": 10**9, **VARIANTS[job.variant].settings,
            **job.settings,
        }  # fmt: skip
        return resolve("ettm1-qwen3b-6gb").config.with_values(values)

    @contextmanager
    def running(self, job: Job, group: Group | None = None) -> Iterator[Run]:
        """The run of a job, on the device while inside. Of several processes each calls it."""
        seed_everything(0)
        torch.set_float32_matmul_precision("highest")  # torch's default, which the project changes for its own runs
        config, variant = self.config(job), VARIANTS[job.variant]
        data = _load_data(config.data.path, config.window.seq_len)
        run = (
            self._start_plain(config, variant, data, job)
            if variant.is_plain
            else self._start_ours(config, data, job, group)
        )
        try:
            yield run
        finally:
            run.close()

    def count_prompt(self, job: Job) -> tuple[float, int]:
        """Mean tokens of a prompt, and those of its constant head."""
        config = self.config(job)
        samples = _load_data(config.data.path, config.window.seq_len).training_windows()
        some = samples.batch(range(0, len(samples) // 64 * 64, len(samples) // 64)).history_BT
        tokens = make_encoder(config).encode(some)
        return len(tokens.prefix) + float(tokens.mask_BK.sum()) / 64, len(tokens.prefix)

    def _start_plain(self, config: Config, variant: Variant, data: ForecastData, job: Job) -> Run:
        llm = self.llm(job.shape)
        attention = "eager" if variant.published else "sdpa"
        model = PlainTimeLLM(
            config,
            llm.build_transformers(config.llm, config.train.precision, attention),
            llm.factor_EE() if variant.compact_mapping else None,
            variant.published,
        ).to(self.device)
        return PlainTraining(config, model, data.training_windows(), make_encoder(config))

    def load(self, job: Job) -> tuple[ForecastData, Runner]:
        """The data of a job and its model with the weights to begin with, the same in every process."""
        seed_everything(0)
        config = self.config(job)
        return _load_data(config.data.path, config.window.seq_len), self._load_model(config, job)

    def _load_model(self, config: Config, job: Job) -> Runner:
        with nullcontext() if config.llm.name == NO_LLM else standing_in_for_files(self.llm(job.shape)):
            return load_model(config, self.device)

    def _start_ours(self, config: Config, data: ForecastData, job: Job, group: Group | None) -> Run:
        return ProjectTraining(config, data, self._load_model(config, job), group)


def give_memory_back(device: torch.device) -> None:
    """After a run that nothing refers to any more: the next one starts with the GPU as it was."""
    if device.type == "cuda":
        forget_recordings()  # else their memory would count as the next run's
    gc.collect()
    if device.type == "cuda":
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1.0)


def make_encoder(config: Config) -> PromptEncoder:
    """The project's encoder, without the padding to round numbers of tokens."""
    text = PromptText(config.prompt, config.window, description_of(config.data, config.prompt.description))
    patches = count_patches(config.window.seq_len, config.model.patch_len, config.model.patch_stride)
    return PromptEncoder(text, load_tokenizer(Path(config.llm.name)), 8192 - patches)


@cache
def _load_data(path: Path, seq_len: int) -> ForecastData:
    values = {"data.path": path, "window.seq_len": seq_len}
    return load_data(resolve("ettm1-qwen3b-6gb").config.with_values(values))
