"""A run of 33 steps in about a second: 3 epochs of 11 steps, dropout on, an accumulation that leaves two steps over."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from timellm_cli.config import Config
from timellm_cli.data.ridge import fit_linear
from timellm_cli.data.windows import load_data
from timellm_cli.model.load import load_model
from timellm_cli.model.runner import Runner
from timellm_cli.model.time_llm import PatchEmbedding
from timellm_cli.planning.hardware import look_at_machine
from timellm_cli.planning.memory_bill import predict
from timellm_cli.processes.group import Group
from timellm_cli.training.checkpoint import load_checkpoint, load_runner
from timellm_cli.training.interruption import Interruption
from timellm_cli.training.loop import Trainer
from timellm_cli.training.records import Record
from timellm_cli.training.run_directory import RunDirectory
from timellm_cli.training.state import seed_everything

torch.set_num_threads(1)

MakeConfig = Callable[..., Config]
Fail = Callable[..., None]


def config_of(llm: Path, csv: Path, folder: Path, **changes: object) -> Config:
    """A resolved configuration; keyword arguments such as `train__epochs=1` change it."""
    values: dict[str, dict[str, object]] = {
        "data": {"dataset": "custom", "path": csv, "train_ratio": 0.6, "window_stride": 4},
        "window": {"seq_len": 48, "pred_len": 12},
        "model": {"d_model": 8, "d_ff": 8, "n_heads": 2, "num_prototypes": 20, "dropout": 0.2},
        "llm": {"name": str(llm), "layers": 2, "quantization": "none"},
        "train": {"epochs": 3, "batch_size": 8, "accumulate": 3, "precision": "fp32", "learning_rate": 0.01},
        "run": {"name": "run", "directory": folder / "checkpoints", "save_steps": 0, "log_steps": 4},
        "hardware": {"device": "cpu"},
    }
    for key, value in changes.items():
        section, name = key.split("__")
        values[section][name] = value
    return Config.model_validate(values)


@pytest.fixture
def make_config(tiny_llm: Path, small_csv: Path, tmp_path: Path) -> MakeConfig:
    """`config_of` the tiny LLM and the small CSV, in a folder of the test's own."""

    def make(**changes: object) -> Config:
        return config_of(tiny_llm, small_csv, tmp_path, **changes)

    return make


@dataclass
class Run:
    """What a training in this process gave."""

    directory: RunDirectory
    runner: Runner
    records: list[Record] = field(default_factory=list)

    def of(self, kind: type) -> list:
        """The records of a kind."""
        return [record for record in self.records if isinstance(record, kind)]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The trained weights."""
        return self.runner.model.own_state()


def train(
    config: Config,
    folder: str = "run",
    *,
    resume: Path | None = None,
    stop_at: int | None = None,
    stop_in_scoring: bool = False,
    group: Group | None = None,
) -> Run:
    """Train in this process, or as one of a group.

    `stop_at` requests a stop during that step, `stop_in_scoring` during the first scoring.
    """
    directory = RunDirectory(config.run.directory / folder)
    directory.create()
    data = load_data(config)
    seed_everything(config.train.seed)
    checkpoint = load_checkpoint(resume) if resume else None
    device = torch.device(config.hardware.device)
    runner = load_runner(checkpoint, config, device) if checkpoint else load_model(config, device)
    if config.model.shortcut == "fitted" and checkpoint is None:
        runner.model.start_from(fit_linear(data).weights_TH)
    interruption = Interruption()

    def on_scored(samples: int) -> None:
        if stop_in_scoring and not interruption.requested:
            interruption.request()

    bill = predict(config, look_at_machine())
    trainer = Trainer(config, data, runner, directory, interruption, on_scored, bill=bill, group=group)
    if checkpoint:
        trainer.resume(checkpoint.training)
    run = Run(directory, runner)
    for record in trainer.run():
        run.records.append(record)
        if stop_at and getattr(record, "step", None) == stop_at and not interruption.requested:
            interruption.request()
    return run


def prescribe_scores(monkeypatch: pytest.MonkeyPatch, validation: list[float]) -> None:
    """Let the epochs have these validation losses, and test errors a hundred times as high."""
    remaining = iter(validation)
    current = 0.0

    def fake(forecaster: object, data: object, split: str, *rest: object, **named: object) -> SimpleNamespace:
        nonlocal current
        if split == "val":
            current = next(remaining)
        factor = 1 if split == "val" else 100
        mse, mae = factor * current, factor * current / 2
        return SimpleNamespace(mse=mse, mae=mae, loss=lambda kind: {"mse": mse, "mae": mae}[kind])

    monkeypatch.setattr("timellm_cli.training.loop.score", fake)
    monkeypatch.setattr("timellm_cli.training.loop.ValidationErrors.intervals", lambda errors: None)


@pytest.fixture
def shrink(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Lets the backward pass (or with `in_scoring` the forward pass) fail for more samples than `most`.

    It begins with the call number `after` of the model, as if another program had taken the memory meanwhile. The
    gradients of all that comes behind in the model have been added by then.
    """

    forward = PatchEmbedding.forward

    def arm(most: int, after: int = 0, in_scoring: bool = False) -> None:
        calls = 0

        def limited(self: nn.Module, patches_BPL: Tensor, key_B: Tensor | None = None) -> Tensor:
            nonlocal calls
            calls += 1
            short = calls > after and len(patches_BPL) > most and in_scoring != self.training
            if short and in_scoring:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            embedded_BPD = forward(self, patches_BPL, key_B)
            if short:
                embedded_BPD.register_hook(_fail)
            return embedded_BPD

        monkeypatch.setattr(PatchEmbedding, "forward", limited)

    return arm


def _fail(gradient: Tensor) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory.")


def assert_same_weights(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    """Bit for bit."""
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert not different
