"""What papers report of the same task, from `published.toml`. Light."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from timellm_cli.config import Config

_SEQ_LEN = 512


@dataclass(frozen=True)
class Published:
    """A method's test errors as its source prints them, in standardised units."""

    name: str
    source: str
    mse: float
    mae: float


def published_for(configs: Sequence[Config]) -> tuple[Published, ...]:
    """Figures for the very task of all these configurations: dataset, window, features and training span; else none."""
    tasks = {_task(config) for config in configs}
    task = tasks.pop() if len(tasks) == 1 else None
    if task is None:
        return ()
    dataset, pred_len = task
    text = (Path(__file__).parent / "published.toml").read_text(encoding="utf-8")
    return tuple(
        Published(method["name"], method["source"], *figures)
        for method in tomllib.loads(text)["method"]
        if (figures := method["figures"].get(dataset, {}).get(str(pred_len)))
    )


def _task(config: Config) -> tuple[str, int] | None:
    data, window = config.data, config.window
    is_as_published = window.seq_len == _SEQ_LEN and data.features == "M" and not data.columns and data.percent == 100
    return (data.dataset, window.pred_len) if is_as_published else None
