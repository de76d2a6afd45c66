"""Rows of `memory_grid.py` as the table that is kept.

    python benchmarks/memory_table.py REPORT... --output benchmarks/memory_grid.csv

Memory in bytes, time in seconds. `step_peak` is torch's peak allocated while stepping; of a captured step in the groups
of `FRESH` while a second recording is made, when the optimizer has its states (in those of `FIRST` it had none yet).
`device` is what the driver says that the process has taken after some steps, `reserved` torch's part of it; where
another program had the card as well, `device` is empty, and times mean nothing. `order` counts the runs of a process:
`device` holds what earlier ones left loaded in the context, which is little.
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from random_llm import HUB_NAMES

from timellm_cli.config import FIELDS

SETTINGS = (
    "llm.double_quant", "llm.implementation", "train.precision", "train.optimizer", "train.accumulate", "model.d_ff",
    "model.num_prototypes", "model.dropout", "hardware.capture", "hardware.recompute",
)  # fmt: skip
MEASURED = (
    "head_tokens", "prompt_tokens", "patches", "loading_peak", "step_peak", "reserved", "device", "scored",
    "scoring_peak", "seconds", "scoring_seconds", "card", "capability", "multiprocessors", "matrix_rate", "bandwidth",
    "torch", "date",
)  # fmt: skip
_MOST_OF_A_CONTEXT = 2**31
OF_THE_JOB = {"train.precision": "bf16", "hardware.capture": "on", "hardware.recompute": "off"}


def flatten(row: dict[str, Any]) -> dict[str, Any]:
    """One line of the table."""
    settings = {**{key: FIELDS[key].default for key in SETTINGS}, **OF_THE_JOB, **row["settings"]}
    return {
        "group": row["part"], "order": row["order"], "llm": settings.pop("llm.name", HUB_NAMES[row["shape"]]),
        "layers": row["layers"], "batch": row["batch"], "seq_len": row["seq_len"], "quantization": row["quantization"],
        **{key.split(".")[1]: settings[key] for key in SETTINGS},
        **{key: _short(row, key) for key in MEASURED},
    }  # fmt: skip


def _short(row: dict[str, Any], key: str) -> Any:
    if key == "device":
        is_alone = row["device_used"] - row["reserved"] < _MOST_OF_A_CONTEXT
        return row["device_used"] if is_alone else ""
    if key == "capability":
        return "{}.{}".format(*row["capability"])
    if key == "multiprocessors":
        return row.get(key, 132 if "H100" in row["card"] else "")
    value = row[key]
    return f"{value:.6g}" if isinstance(value, float) else value


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reports", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    lines = [line for report in arguments.reports for line in report.read_text(encoding="utf-8").splitlines()]
    rows = [flatten(row) for row in map(json.loads, lines) if not row["fault"]]
    with arguments.output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
