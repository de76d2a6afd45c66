"""`timellm runs`: what lies in checkpoints/, with its scores. Light: no checkpoint is opened."""

import tomllib
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from rich.text import Text

from timellm_cli.console import as_is, out, print_json, say
from timellm_cli.errors import ConfigError
from timellm_cli.report.tables import titled_table
from timellm_cli.report.training_log import read_metrics
from timellm_cli.training.run_directory import RunDirectory
from timellm_cli.units import format_memory


@dataclass(frozen=True)
class FoundRun:
    """A run's folder. Errors are those of the epoch with the lowest validation loss, in standardised units.

    `step` is the last one that was recorded, `checkpoint` the file to use: best.pt where it is there.
    """

    name: str
    data: str
    window: str
    llm: str
    step: int | None
    epoch: int | None
    val_mse: float | None
    test_mse: float | None
    checkpoint: str
    bytes: int
    changed: str


def run(folder: Path, *, as_json: bool) -> None:
    """List the runs of a folder, the newest first. Raises ConfigError where there is no such folder."""
    if not folder.is_dir():
        raise ConfigError(f"there is no folder '{folder}'", "timellm train makes it; another one: timellm runs FOLDER")
    found = sorted(filter(None, map(_read, _folders(folder))), key=lambda one: one.changed, reverse=True)
    if as_json:
        print_json({"folder": str(folder), "runs": [asdict(one) for one in found]})
        return
    if not found:
        say(f"no run is in '{folder}' yet")
        return
    table = titled_table(f"Runs in {folder}", show_lines=True)
    table.add_column("run", overflow="fold", ratio=1)
    for name in ("epoch", "val\nMSE", "test\nMSE"):
        table.add_column(name, justify="right")
    for one in found:
        more = f"\n{one.data} {one.window}, {one.llm}\n{one.checkpoint}, {one.changed}"
        what = Text.assemble(as_is(one.name, "bold"), as_is(more))
        table.add_row(what, _shown(one.epoch), _shown(one.val_mse), _shown(one.test_mse))
    out.print(table)
    say("errors of each run's best epoch, in standardised units; `timellm eval CHECKPOINT...` compares them")


def _folders(folder: Path) -> list[Path]:
    return [path for path in (folder, *folder.iterdir()) if path.is_dir() and RunDirectory(path).holds_a_run()]


def _read(path: Path) -> FoundRun:
    directory = RunDirectory(path)
    config = {}
    with suppress(OSError, ValueError):  # a run without one is listed all the same
        config = tomllib.loads((path / "config.toml").read_text(encoding="utf-8"))
    data, window, llm = (config.get(section, {}) for section in ("data", "window", "llm"))
    lines = read_metrics(directory.metrics)
    epochs = [line for line in lines if line["event"] == "epoch"]
    best = min(epochs, key=lambda line: line["val_loss"], default=None)
    checkpoint = directory.best if directory.best.is_file() else directory.newest_checkpoint() or directory.last
    state = checkpoint.stat()
    return FoundRun(
        name=path.name,
        data=Path(data["path"]).name if "path" in data else str(data.get("dataset", "?")),
        window=f"{window.get('seq_len', '?')} -> {window.get('pred_len', '?')}",
        llm=str(llm.get("name", "?")).replace("\\", "/").rstrip("/").rpartition("/")[2],
        step=max((line["step"] for line in lines), default=None),
        epoch=best["epoch"] if best else None,
        val_mse=best["val_mse"] if best else None,
        test_mse=best["test_mse"] if best else None,
        checkpoint=f"{checkpoint.name} ({format_memory(state.st_size)})",
        bytes=state.st_size,
        changed=datetime.fromtimestamp(state.st_mtime).isoformat(" ", "minutes"),
    )


def _shown(value: float | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"
