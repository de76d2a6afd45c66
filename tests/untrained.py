"""Small models and checkpoints with fresh weights, made in a moment."""

from pathlib import Path
from typing import Any

import torch

from timellm_cli.config import Config
from timellm_cli.data.windows import load_data
from timellm_cli.model.load import load_model
from timellm_cli.model.runner import Runner
from timellm_cli.prompt_template import PROMPT_TEMPLATE

CPU = torch.device("cpu")


def make_config(csv: Path, llm: str | Path = "none", **changes: object) -> Config:
    """A small resolved configuration; keyword arguments such as `window__seq_len=24` change it."""
    values: dict[str, dict[str, object]] = {
        "data": {"dataset": "custom", "path": csv},
        "window": {"seq_len": 48, "pred_len": 12},
        "model": {"d_model": 8, "d_ff": 8, "n_heads": 2, "num_prototypes": 20},
        "llm": {"name": str(llm), "layers": 2, "quantization": "none"},
        "train": {"precision": "fp32"},
        "hardware": {"device": "cpu"},
        "ahead": {},
    }
    for key, value in changes.items():
        section, name = key.split("__")
        values[section][name] = value
    return Config.model_validate(values)


def small_runner(folder: Path | str, quantization: str = "none", template: str = PROMPT_TEMPLATE, **llm: Any) -> Runner:
    """A model of 48 rows to 12 around the first two layers of the LLM in `folder`, on the CPU. Notes are printed."""
    config = Config.model_validate(
        {
            "data": {"dataset": "custom"},
            "window": {"seq_len": 48, "pred_len": 12},
            "model": {"patch_len": 8, "patch_stride": 4, "d_model": 8, "d_ff": 8, "n_heads": 2, "num_prototypes": 20},
            "llm": {"name": str(folder), "layers": 2, "quantization": quantization, **llm},
            "prompt": {"template": template},
            "train": {"precision": "fp32"},
        }
    )
    torch.manual_seed(0)
    return load_model(config, CPU, print)


def histories(count: int) -> torch.Tensor:
    """Histories whose prompts differ in length: amplitudes, signs and periods vary."""
    torch.manual_seed(5)
    time = torch.arange(48.0)
    return torch.stack([torch.sin(time * (0.2 + 0.3 * row)) * 3**row + torch.randn(48) * 0.3 for row in range(count)])


def save_untrained(path: Path, config: Config, seed: int = 0) -> Path:
    """Write a checkpoint of fresh weights drawn under `seed`, and say where it is."""
    from timellm_cli.training.checkpoint import Checkpoint, save_checkpoint

    data = load_data(config)
    torch.manual_seed(seed)
    runner = load_model(config, CPU)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, Checkpoint.of(runner, data, config, metrics={}))
    return path
