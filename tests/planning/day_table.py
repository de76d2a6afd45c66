"""A small table with a line of text for each day and a column that is known ahead, and a run on it."""

from datetime import datetime, timedelta
from pathlib import Path

from timellm_cli.config import Config


def write_table(folder: Path, llm: Path, reader: str) -> Config:
    """The resolved configuration of a run without an LLM whose days are read by `reader`."""
    first = datetime(2024, 1, 1)
    rows = [f"{first + timedelta(hours=6 * row)},{row % 7},{10 + row % 4}" for row in range(240)]
    (folder / "table.csv").write_text("\n".join(["date,sale,count", *rows, ""]), encoding="utf-8")
    events = [f"{(first + timedelta(days=day)).date()},event {day % 3}" for day in range(0, 60, 5)]
    (folder / "events.csv").write_text("\n".join(["start,text", *events, ""]), encoding="utf-8")
    return Config.model_validate(
        {
            "data": {
                "dataset": "custom", "path": folder / "table.csv", "target": "count", "future_columns": ["sale"],
            },
            "window": {"seq_len": 28, "pred_len": 4},
            "model": {"d_model": 8, "d_ff": 8, "n_heads": 2, "num_prototypes": 20, "patch_len": 8, "patch_stride": 4},
            "llm": {"name": "none", "quantization": "none"},
            "ahead": {"events": str(folder / "events.csv"), "weekday_text": "weekday", "reader": reader,
                      "llm": str(llm) if reader == "llm" else None},
            "hardware": {"device": "cpu", "capture": "off", "recompute": "off"},
            "train": {"precision": "fp32", "batch_size": 8},
        }
    )  # fmt: skip
