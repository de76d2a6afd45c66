"""A checkpoint in a moment: fresh weights of a small model, stored with the scaler of a real CSV."""

from pathlib import Path

import torch

from timellm_cli.config import Config
from timellm_cli.data.windows import load_data
from timellm_cli.model.load import load_forecaster
from timellm_cli.training.checkpoint import Checkpoint, save_checkpoint

CPU = torch.device("cpu")


def make_config(csv: Path, llm: str | Path = "none", **changes: object) -> Config:
    """A small settled configuration; keyword arguments such as `window__seq_len=24` change it."""
    values: dict[str, dict[str, object]] = {
        "data": {"dataset": "custom", "path": csv},
        "window": {"seq_len": 48, "pred_len": 12},
        "model": {"d_model": 8, "d_ff": 8, "n_heads": 2, "num_prototypes": 20},
        "llm": {"name": str(llm), "layers": 2, "quantization": "none"},
        "train": {"precision": "fp32"},
        "hardware": {"device": "cpu"},
    }
    for key, value in changes.items():
        section, name = key.split("__")
        values[section][name] = value
    return Config.model_validate(values)


def save_untrained(path: Path, config: Config, seed: int = 0) -> Path:
    """Write a checkpoint of fresh weights drawn under `seed`, and say where it is."""
    data = load_data(config)
    torch.manual_seed(seed)
    model = load_forecaster(config, CPU)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, Checkpoint.of(model, data, config, metrics={}))
    return path
