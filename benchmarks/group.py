"""Measures one group of jobs in a process of its own; `throughput.py` starts it.

    python benchmarks/group.py TASK ROUNDS STEPS DEVICE

TASK is a JSON file beside `ett.csv` and the LLM folders: a list of jobs, which is replaced by their rows.
"""

import json
import logging
import sys
from pathlib import Path

import torch
from measure import measure_in_turns
from runs import Workplace
from variants import Job

WARM_UP = 4


def main() -> None:
    """Measure and write the rows."""
    task, device = Path(sys.argv[1]), torch.device(sys.argv[4])
    rounds, steps = int(sys.argv[2]), int(sys.argv[3])
    logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)
    jobs = [Job(**job) for job in json.loads(task.read_text(encoding="utf-8"))]
    place = Workplace(task.parent, device, "bf16" if device.type == "cuda" else "fp32")
    rows = measure_in_turns(jobs, place, rounds, WARM_UP if device.type == "cuda" else 1, steps)
    task.write_text(json.dumps(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
