"""What papers report of the same task, from `published.toml`. Light."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from timellm_cli.config import Config

_SEQ_LEN = 512


@dataclass(frozen=True)
class Published:
    """A method's test errors as its source prints them, in standardised units.

    Where `dropped_batch` is known, the last windows of the test set, too few for a batch of that size, were not scored.
    """

    name: str
    source: str
    mse: float
    mae: float
    dropped_batch: int | None = None

    def windows_left_out(self, windows: int) -> int:
        """How many of the windows of a test set its source did not score, as far as is known."""
        return windows % self.dropped_batch if self.dropped_batch else 0


def published_for(configs: Sequence[Config], other_dataset: str | None = None) -> tuple[Published, ...]:
    """Figures for the very task of all these configurations: dataset, window, features and training span; else none.

    `other_dataset` is the one that models are tested on without having been trained on it (zero-shot).
    """
    tasks = {_task(config, other_dataset) for config in configs}
    task = tasks.pop() if len(tasks) == 1 else None
    if task is None:
        return ()
    name, pred_len = task
    text = (Path(__file__).parent / "published.toml").read_text(encoding="utf-8")
    return tuple(
        Published(method["name"], method["source"], figures[0], figures[1], method.get("dropped_batch"))
        for method in tomllib.loads(text)["method"]
        if (figures := method["figures"].get(name, {}).get(str(pred_len)))
    )


def _task(config: Config, other_dataset: str | None) -> tuple[str, int] | None:
    """What `published.toml` calls the task, and the horizon."""
    data, window = config.data, config.window
    if window.seq_len != _SEQ_LEN or data.features != "M" or data.columns:
        return None
    name = data.dataset if data.percent == 100 else f"{data.dataset}, {data.percent} %"
    return (f"{name} -> {other_dataset}" if other_dataset else name), window.pred_len
