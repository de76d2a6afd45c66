"""How long the model takes to load: the first start with an LLM, the next ones, and transformers' own NF4 loading.

    python benchmarks/second_start.py --tokenizer FOLDER [--json FILE] [--layers 36] [--small]

An LLM folder of Qwen2.5-3B's shape is written with random bf16 weights. Each start is a process of its own that loads
the model of the profile `ettm1-qwen3b-6gb` with `--layers`; before each, its files and those it left are dropped from
the system's file cache, except where the row says 'files in memory'. 'load' counts from the imports of torch and the
project on, 'process' is the whole process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from gpu_profiles import make_llm
from random_llm import SHAPES

# What `timellm train` does between its imports and the first step, timed.
LOAD = """
import json, logging, sys, time
from pathlib import Path
import torch, transformers, bitsandbytes
from timellm_cli.model.load import load_model
from timellm_cli.model.llm.transformers_llm import load_with_transformers
from timellm_cli.settings import resolve
logging.disable(logging.CRITICAL)
folder, csv, layers, device, kind = sys.argv[1:]
config = resolve("ettm1-qwen3b-6gb").config.with_values({
    "llm.name": folder, "llm.layers": int(layers), "hardware.device": device, "data.path": csv,
    "train.precision": "bf16" if device == "cuda" else "fp32", "hardware.capture": "on", "hardware.recompute": "off"})
device = torch.device(device)
torch.zeros(1, device=device)
start = time.perf_counter()
if kind == "ours":
    model = load_model(config, device)
else:
    model = load_with_transformers(config.llm, config.train.precision, Path(folder), device)
if device.type == "cuda":
    torch.cuda.synchronize()
print(json.dumps(time.perf_counter() - start))
"""


def drop_from_memory(folders: Iterable[Path]) -> None:
    """Let the system forget what it holds of these files."""
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def load_once(llm: Path, cache: Path, layers: int, device: str, kind: str) -> tuple[float, float]:
    """Seconds of one load in a fresh process, and of that process."""
    environment = {**os.environ, "TIMELLM_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD, str(llm), "unread.csv", str(layers), device, kind]
    start = time.perf_counter()
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return float(json.loads(finished.stdout.splitlines()[-1])), time.perf_counter() - start


def main() -> None:
    """Write the LLM, load it again and again, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    parser.add_argument("--json", type=Path, help="append a JSON object a row to this file")
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--small", action="store_true", help="a toy LLM on the CPU, to try the script")
    arguments = parser.parse_args()
    device, shape = ("cpu", "toy") if arguments.small else ("cuda", "qwen2.5-3b")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        llm, cache = Path(temporary) / "llm", Path(temporary) / "cache"
        written = [sys.executable, __file__, "--write", str(llm), str(arguments.tokenizer), shape, device]
        subprocess.run(written, check=True, stdout=subprocess.DEVNULL)
        turns = [("transformers", "transformers", True), ("first start", "ours", True), ("second start", "ours", True),
                 ("third start", "ours", True), ("fourth start, files in memory", "ours", False)]  # fmt: skip
        for name, kind, forget in turns:
            if forget:
                drop_from_memory([llm, cache])
            load, process = load_once(llm, cache, arguments.layers, device, kind)
            rows.append(
                {"part": "second-start", "variant": name, "layers": arguments.layers, "load": load, "process": process}
            )
            print(f"{name:30} load {load:6.2f} s, process {process:6.2f} s", flush=True)
    if arguments.json:
        with arguments.json.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    print(f"first / second: {rows[1]['load'] / rows[2]['load']:.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:  # in a process of its own, which gives the GPU back
        make_llm(Path(sys.argv[2]), SHAPES[sys.argv[4]], Path(sys.argv[3]), sys.argv[5])
    else:
        main()
