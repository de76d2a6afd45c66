"""metrics.jsonl: what happened in a run, one JSON object a line, each step and each epoch once. Light."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from timellm_cli.files import disk_faults_of, replacing
from timellm_cli.training.records import EpochFinished, MemoryMeasured, MemoryShort, Record, StepLogged

_EVENTS: dict[type, str] = {
    StepLogged: "step",
    EpochFinished: "epoch",
    MemoryMeasured: "memory",
    MemoryShort: "memory_short",
}


class MetricsLog:
    """Appends to the file, line by line. Raises ModelError where the disk refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def start_after(self, step: int, scored: bool) -> None:
        """Keep what led to a checkpoint of `step` steps; the rest is written anew.

        `scored` says whether the scores after that very step are part of it: a run may have stopped before them.
        """
        kept = [
            line
            for line in read_metrics(self._path)
            if line["step"] < step or (line["step"] == step and (line["event"] != "epoch" or scored))
        ]
        with disk_faults_of(self._path), replacing(self._path) as file:
            file.writelines((json.dumps(line) + "\n").encode("utf-8") for line in kept)

    def write(self, record: Record) -> None:
        """Write the records that belong into the file; the others pass."""
        if event := _EVENTS.get(type(record)):
            line = json.dumps({"event": event, **asdict(record)}) + "\n"
            with disk_faults_of(self._path), self._path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(line)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file as objects; a line that a killed process left unfinished is passed over."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and line.get("event") in _EVENTS.values():
            lines.append(line)
    return lines
