"""What several seeds of one run came to: each, their mean and their spread. Light."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.text import Text

from timellm_cli.report.run_summary import quote
from timellm_cli.report.tables import titled_table

_COLUMNS = {
    "val_mse": "validation MSE", "val_mae": "validation MAE", "test_mse": "test MSE", "test_mae": "test MAE",
}  # fmt: skip


def summarise_seeds(best: Mapping[int, Mapping[str, float]]) -> dict[str, Any]:
    """From the best epoch of each seed to plain data: `runs`, their `mean` and sample standard deviation `std`.

    Errors are in standardised units. One seed has no `std`.
    """
    runs = [
        {"seed": seed, "epoch": int(figures["epoch"]), **{key: figures[key] for key in _COLUMNS}}
        for seed, figures in best.items()
    ]
    columns = {key: [run[key] for run in runs] for key in _COLUMNS}
    return {
        "runs": runs,
        "mean": {key: mean(values) for key, values in columns.items()},
        "std": {key: stdev(values) for key, values in columns.items()} if len(runs) > 1 else None,
    }


def print_seeds(console: Console, summary: Mapping[str, Any], path: Path, checkpoints: Sequence[Path]) -> None:
    """The table, where it lies as a file, and the command that holds all seeds against baselines."""
    table = titled_table(f"{len(summary['runs'])} seeds, the best epoch of each")
    table.add_column("seed")
    for name in ("epoch", *_COLUMNS.values()):
        table.add_column(name, justify="right")
    for run in summary["runs"]:
        table.add_row(str(run["seed"]), str(run["epoch"]), *_format(run))
    table.add_section()
    table.add_row("mean", "", *_format(summary["mean"]))
    if summary["std"]:
        table.add_row("deviation", "", *_format(summary["std"]))
    console.print(table)
    lines = [f"In standardised units, and in {path}", "Next:"]
    lines.append("  timellm eval " + " ".join(quote(checkpoint) for checkpoint in checkpoints))
    console.print(Text("\n".join(lines)), soft_wrap=True)


def _format(figures: Mapping[str, float]) -> list[str]:
    return [f"{figures[key]:.4f}" for key in _COLUMNS]
