"""The shipped GPU profiles, run for real on a GPU of any size: peak memory against the bill, inside the budget.

    python benchmarks/gpu_profiles.py --tokenizer FOLDER [--steps 40] [--profile NAME ...]

Weights of the exact shape are drawn at random (time and memory do not depend on their values) and a full-length ETT
file is generated. The process may take no more memory than the profile's card has. Prints one short table at the end.
An LLM of 6 to 16 GB is written first, then 40 steps and a short scoring follow: minutes a profile.
Not measured here: accuracy, and the speed of a small card.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

QWEN_3B = {
    "model_type": "qwen2", "hidden_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 16,
    "num_key_value_heads": 2, "intermediate_size": 11008, "vocab_size": 151_936, "tie_word_embeddings": True,
    "max_position_embeddings": 32_768,
}  # fmt: skip
LLAMA_8B = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14_336, "vocab_size": 128_256, "tie_word_embeddings": False,
    "max_position_embeddings": 8192,
}  # fmt: skip
PROFILES = {
    "ettm1-qwen3b-6gb": (QWEN_3B, "ETTm1"),
    "ettm1-qwen3b-6gb-full": (QWEN_3B, "ETTm1"),
    "etth1-llama3-8b-t4": (LLAMA_8B, "ETTh1"),
}

# Runs the real command line with the process's GPU memory capped, and reports what torch saw.
CAPPED = """
import json, sys, torch
share = float(sys.argv[1]) / torch.cuda.get_device_properties(0).total_memory
torch.cuda.set_per_process_memory_fraction(min(share, 1.0))
from timellm_cli.cli import main
sys.argv = ["timellm", *sys.argv[2:]]
try:
    main()
finally:
    free, total = torch.cuda.mem_get_info()
    report = {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved(),
              "device": total - free}
    open(REPORT, "w").write(json.dumps(report))
"""


@dataclass
class Outcome:
    """What one profile did. Memory in GiB."""

    profile: str
    exit_codes: list[int]
    predicted: float
    allocated: float
    reserved: float
    device: float
    samples_per_second: float


def make_llm(folder: Path, shape: dict, tokenizer: Path, device: str = "cuda") -> None:
    """An LLM folder of the given shape with random bf16 weights; layers beyond the used ones included."""
    import torch
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(**shape)
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16)
        model = AutoModel.from_config(config)
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder, max_shard_size="3GB")
    for file in tokenizer.glob("tokenizer*"):
        shutil.copy(file, folder)
    del model
    torch.cuda.empty_cache()


def make_ett(path: Path, rows: int, minutes: int) -> None:
    """A CSV with ETT's columns and length: daily waves with noise."""
    random = np.random.default_rng(0)
    start = np.datetime64("2016-07-01T00:00:00")
    stamps = start + np.arange(rows) * np.timedelta64(minutes, "m")
    day = np.arange(rows) * minutes / 1440 * 2 * np.pi
    values = np.stack([np.sin(day + phase) * 3 + random.normal(size=rows) for phase in range(7)], axis=1)
    with path.open("w", encoding="utf-8") as file:
        file.write("date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT\n")
        for stamp, row in zip(stamps, values, strict=True):
            file.write(f"{str(stamp).replace('T', ' ')}," + ",".join(f"{value:.3f}" for value in row) + "\n")


def run_profile(name: str, llm: Path, csv: Path, folder: Path, steps: int) -> Outcome:
    """Train, resume, score and forecast with one profile under its memory budget."""
    report = folder / f"{name}.json"
    flags = ["--profile", name, "--llm", str(llm), "--data-path", str(csv), "--checkpoints", str(folder / "runs")]
    flags += ["--run-name", name, "--window-stride", "500", "--log-steps", "10", "--epochs", "50"]
    plan = subprocess.run(
        [sys.executable, "-m", "timellm_cli", "inspect", *flags, "--json"], capture_output=True, text=True, check=True
    )
    inspected = json.loads(plan.stdout)
    budget = inspected["memory"]["budget"]
    best = str(folder / "runs" / name / "best.pt")
    half = str(steps // 2)
    commands = [
        ["train", *flags, "--max-steps", str(steps), "--save-steps", half],
        ["eval", best, "--limit", "2"],
        ["predict", best, str(csv), "-o", str(folder / f"{name}.csv")],
    ]
    codes, peaks = [], []
    for command in commands:
        program = CAPPED.replace("REPORT", repr(str(report)))
        finished = subprocess.run(
            [sys.executable, "-c", program, str(budget), *command], stdout=subprocess.DEVNULL, check=False
        )
        codes.append(finished.returncode)
        peaks.append(json.loads(report.read_text()))
    lines = [json.loads(line) for line in (folder / "runs" / name / "metrics.jsonl").read_text().splitlines()]
    speeds = [line["samples_per_second"] for line in lines if "samples_per_second" in line]
    gib = 2**30
    return Outcome(
        name, codes, inspected["memory"]["total"] / gib, peaks[0]["allocated"] / gib, peaks[0]["reserved"] / gib,
        peaks[0]["device"] / gib, max(speeds, default=0.0),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--profile", action="append", choices=sorted(PROFILES))
    arguments = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_ett(folder / "ETTm1.csv", 69_680, 15)
        make_ett(folder / "ETTh1.csv", 17_420, 60)
        for name in arguments.profile or PROFILES:
            shape, dataset = PROFILES[name]
            llm = folder / f"{shape['model_type']}-{shape['num_hidden_layers']}"
            if not llm.is_dir():
                make_llm(llm, shape, arguments.tokenizer)
            outcomes.append(run_profile(name, llm, folder / f"{dataset}.csv", folder, arguments.steps))
    print(f"{'profile':24} {'exit codes':>12} {'bill':>7} {'alloc':>7} {'resv':>7} {'device':>7} {'samples/s':>10}")
    for o in outcomes:
        print(f"{o.profile:24} {o.exit_codes!s:>12} {o.predicted:7.2f} {o.allocated:7.2f} {o.reserved:7.2f} "
              f"{o.device:7.2f} {o.samples_per_second:10.1f}")  # fmt: skip


if __name__ == "__main__":
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    main()
