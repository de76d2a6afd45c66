"""Memory and time of many different training runs on one GPU: the data that `timellm inspect` is held against.

    python benchmarks/memory_grid.py --tokenizer FOLDER --json FILE [--traces FILE] [--seconds N] [GROUP ...] [--small]

Each run is the project's own training loop for a few steps, with random weights of an exact shape. Runs of a group
share a process, one after the other. A row holds the settings, what the prompts were like, torch's peaks while loading,
while stepping and while scoring (bytes), what the driver says that is taken, and seconds a step.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gpu_profiles import make_ett
from random_llm import SHAPES, make_folder
from variants import Job

RECOMPUTE = {"hardware.recompute": "on"}
EAGER = {"hardware.capture": "off"}
TRANSFORMERS = {"llm.implementation": "transformers", "hardware.capture": "off"}


def _job(shape: str, layers: int, batch: int, quantization: str = "nf4", seq_len: int = 512, **settings: Any) -> Job:
    """`settings` are keys of the configuration with an underscore for the dot."""
    keys = {key.replace("_", ".", 1): value for key, value in settings.items()}
    return Job("grid", "ours", shape, layers, batch, quantization, seq_len, settings=keys)


def _with(settings: dict[str, Any], *jobs: Job) -> list[Job]:
    return [replace(job, settings={**job.settings, **settings}) for job in jobs]


def _qwen_3b() -> list[Job]:
    name = "qwen2.5-3b"
    return [
        _job(name, 6, 8),
        _job(name, 6, 32),
        _job(name, 6, 128),
        *_with(EAGER, _job(name, 6, 8)),
        *_with(RECOMPUTE, _job(name, 6, 32), _job(name, 6, 256), _job(name, 36, 32)),
        *_with(TRANSFORMERS, _job(name, 6, 8)),
        _job(name, 36, 8),
        _job(name, 36, 32),
        _job(name, 12, 16, seq_len=96),
        _job(name, 12, 16, seq_len=1024),
        _job(name, 12, 16, model_d_ff=128),
        _job(name, 12, 16, "int8"),
        _job(name, 12, 16, llm_double_quant=False),
        _job(name, 12, 16, model_dropout=0.0, model_num_prototypes=100),
        *_with(EAGER, _job(name, 12, 16, train_optimizer="adamw8bit"), _job(name, 36, 8)),
        _job(name, 36, 4, "none"),
    ]


def _qwen_small() -> list[Job]:
    tiny, small = "qwen2.5-0.5b", "qwen2.5-1.5b"
    return [
        _job(tiny, 6, 8, "none"),
        _job(tiny, 24, 32, "none"),
        _job(tiny, 12, 128),
        _job(tiny, 24, 8, "int8"),
        *_with(RECOMPUTE, _job(tiny, 24, 64, "none")),
        *_with(EAGER, _job(tiny, 24, 32, "none", seq_len=336)),
        *_with(TRANSFORMERS, _job(tiny, 8, 16, "none"), _job(tiny, 24, 16)),
        _job(small, 28, 16),
        _job(small, 14, 32, "none"),
        _job(small, 6, 64, seq_len=720, model_d_ff=64),
        _job(small, 28, 16, train_optimizer="adam8bit"),
        *_with(EAGER, _job(small, 28, 16, "int8")),
        *_with(RECOMPUTE, _job(small, 28, 64)),
        *_with(TRANSFORMERS, _job(small, 14, 8), _job(small, 6, 8, "int8")),
    ]


def _llama() -> list[Job]:
    name, settings = "llama-3-8b", {"seq_len": 256}
    return [
        _job(name, 8, 32),
        _job(name, 8, 8, "int8"),
        _job(name, 4, 8, "none", **settings),
        *_with(EAGER, _job(name, 8, 16, **settings)),
        *_with(TRANSFORMERS, _job(name, 6, 8)),
        _job(name, 32, 2, **settings),
        _job(name, 32, 16, **settings),
        *_with(RECOMPUTE, _job(name, 32, 48, **settings)),
        _job(name, 32, 8, "int8", **settings),
    ]


def _small() -> list[Job]:
    name, other = "smollm2-135m", "gpt2"
    return [
        _job(name, 6, 32, "none"),
        _job(name, 30, 128, "none"),
        _job(name, 30, 16, "none"),
        _job(name, 30, 32),
        _job(name, 2, 8, "none", train_precision="fp32"),
        _job(name, 30, 256, "none", seq_len=96),
        *_with(RECOMPUTE, _job(name, 30, 256, "none")),
        *_with(EAGER, _job(name, 30, 16, "none", train_precision="fp16")),
        *_with(TRANSFORMERS, _job(name, 6, 64, "none")),
        *_with(
            TRANSFORMERS,
            _job(other, 6, 32, "none"),
            _job(other, 6, 8, "none", model_d_ff=128),
            _job(other, 12, 64, "none"),
            _job(other, 12, 16, "none", train_precision="fp32"),
            _job(other, 12, 16, "none", seq_len=256),
        ),
        *_with({"llm.name": "none", "hardware.capture": "off"}, _job(name, 1, 32, "none"), _job(name, 1, 256, "none")),
    ]


def _expandable() -> list[Job]:
    name = "qwen2.5-3b"
    return [
        _job(name, 6, 8),
        *_with(TRANSFORMERS, _job(name, 6, 8)),
        *_with(EAGER, _job(name, 12, 16)),
        *_with(RECOMPUTE, _job(name, 36, 32)),
        _job(name, 36, 8),
    ]


GROUPS = {"qwen-3b": _qwen_3b, "llama": _llama, "qwen-small": _qwen_small, "small": _small, "expandable": _expandable}


def run_group(name: str, folder: Path, report: Path, traces: Path | None, small: bool, limit: float) -> None:
    """Measure a group in a process of its own, for at most `limit` seconds."""
    jobs = GROUPS[name]()
    if small:
        jobs = [
            replace(
                job, shape="toy-gpt2" if job.shape == "gpt2" else "toy", layers=min(job.layers, 2), batch=2,
                settings={key: value for key, value in job.settings.items() if key != "train.optimizer"},
            )
            for job in jobs
        ]  # fmt: skip
    jobs = [replace(job, part=name) for job in jobs]
    task = folder / "task.json"
    task.write_text(json.dumps([asdict(job) for job in jobs]), encoding="utf-8")
    environment = {**os.environ, "TIMELLM_CACHE": str(folder / "cache")}
    if name == "expandable":
        environment["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    command = [sys.executable, str(Path(__file__).with_name("memory_run.py")), str(task), str(report)]
    command += ["cpu" if small else "cuda", *([str(traces)] if traces else [])]
    try:
        finished = subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL, timeout=limit)
    except subprocess.TimeoutExpired:
        print(f"{name}: stopped after {limit:.0f} s", file=sys.stderr)
        return
    if finished.returncode:
        print(f"{name}: ended with {finished.returncode}", file=sys.stderr)


def main() -> None:
    """Measure the groups asked for, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; default: all")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json, ids below 49,152")
    parser.add_argument("--json", type=Path, required=True, help="append a JSON object a run to this file")
    parser.add_argument("--traces", type=Path, help="append to this file what is alive at the peak of small runs")
    parser.add_argument("--seconds", type=float, default=3600, help="start nothing after so many seconds")
    parser.add_argument("--small", action="store_true", help="toy sizes on the CPU, to try the script")
    arguments = parser.parse_args()
    if unknown := set(arguments.groups) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}; groups are {', '.join(GROUPS)}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for shape in SHAPES:
            make_folder(folder / shape, shape, arguments.tokenizer)
        make_ett(folder / "ett.csv", 69_680, 15)
        for name in arguments.groups or GROUPS:
            left = arguments.seconds - (time.monotonic() - started)
            if left > 15:
                run_group(name, folder, arguments.json, arguments.traces, arguments.small, left)
    print_rows(arguments.json)


def print_rows(report: Path) -> None:
    """One short line a run; memory in MiB, time in milliseconds."""
    mib = 2**20
    for line in report.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        what = f"{row['part']:10} {row['shape']:13} {row['layers']:2} x {row['batch']:3} {row['quantization']:4}"
        what += f" T {row['seq_len']:4}"
        if not row["fault"]:
            what += (
                f" load {row['loading_peak'] // mib:6} step {row['step_peak'] // mib:6}"
                f" reserved {row['step_reserved'] // mib:6} device {row['device_used'] // mib:6}"
                f" score {row['scoring_peak'] // mib:6} {row['seconds'] * 1000:7.1f} ms"
            )
        print(what, row["fault"] or row["settings"])


if __name__ == "__main__":
    main()
