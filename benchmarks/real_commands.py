"""The memory bill against the real command: `timellm train` on files, with what the driver says that it took.

    python benchmarks/real_commands.py --tokenizer FOLDER [--first N] [--last N] [--small]

`RUNS` was fixed before the first run, with shapes, data and settings that the calibration (`memory_grid.csv`) has not
seen; nothing is fitted to it. Each run is a process of its own. Half of them are second starts, which find the LLM's
layers prepared by a run before. The weights are random; a folder holds the layers that are used. `took` is the most
that NVML counts of the card before scoring begins, less what was taken before; nobody else may use the card. `bill` is
what `timellm inspect` says. Prints one line a run, and a table at the end.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_profiles import make_ett

MIB = 2**20
TIMELLM = (sys.executable, "-m", "timellm_cli")
STEPS = 12


def _llama(hidden: int, heads: int, kv: int, inner: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    return {
        "model_type": "llama", "hidden_size": hidden, "num_attention_heads": heads, "num_key_value_heads": kv,
        "intermediate_size": inner, "vocab_size": vocabulary, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True, **more,
    }  # fmt: skip


SHAPES: dict[str, dict[str, Any]] = {
    "mistral-7b": _llama(4096, 32, 8, 14_336, 49_152, model_type="mistral", sliding_window=None),
    "llama-3.2-3b": _llama(3072, 24, 8, 8192, 128_256, head_dim=128),
    "smollm2-1.7b": _llama(2048, 32, 32, 8192, 49_152),
    "smollm2-360m": _llama(960, 15, 5, 2560, 49_152),
    "tinyllama-1.1b": _llama(2048, 32, 4, 5632, 49_152),
    "qwen3-4b": _llama(2560, 32, 8, 9728, 151_936, model_type="qwen3", head_dim=128),
    "qwen3-0.6b": _llama(1024, 16, 8, 3072, 151_936, model_type="qwen3", head_dim=128),
    "qwen2-3b": _llama(2048, 16, 2, 11_008, 151_936, model_type="qwen2"),
}


@dataclass(frozen=True)
class Run:
    """One command. `second`: the same command ran before, so that the LLM is prepared."""

    shape: str
    layers: int
    second: bool
    options: str


RUNS = (
    Run("mistral-7b", 4, False, "--batch-size 8 --quantization int8 --accumulate 4"),
    Run("mistral-7b", 4, True, "--batch-size 8 --quantization int8 --accumulate 4"),
    Run("mistral-7b", 6, False, "--batch-size 24 --seq-len 336 --pred-len 192"),
    Run("llama-3.2-3b", 8, False, "--batch-size 16"),
    Run("llama-3.2-3b", 8, True, "--batch-size 16"),
    Run("llama-3.2-3b", 12, False, "--batch-size 48 --recompute on --seq-len 720"),
    Run("smollm2-1.7b", 10, False, "--batch-size 20 --pred-len 336"),
    Run("smollm2-1.7b", 10, True, "--batch-size 20 --pred-len 336"),
    Run("smollm2-1.7b", 6, True, "--batch-size 64 --quantization none --features S"),
    Run("smollm2-360m", 24, False, "--batch-size 32 --quantization none --seq-len 720 --recompute on"),
    Run("smollm2-360m", 24, True, "--batch-size 32 --quantization none --seq-len 720 --recompute on"),
    Run("smollm2-360m", 8, False, "--batch-size 128"),
    Run("tinyllama-1.1b", 12, False, "--batch-size 12 --seq-len 96 --pred-len 24"),
    Run("tinyllama-1.1b", 12, True, "--batch-size 12 --seq-len 96 --pred-len 24"),
    Run("tinyllama-1.1b", 20, True, "--batch-size 40 --d-model 64 --d-ff 128"),
    Run("qwen3-4b", 6, False, "--batch-size 8"),
    Run("qwen3-4b", 6, True, "--batch-size 8"),
    Run("qwen3-4b", 9, True, "--batch-size 32 --optimizer adamw8bit"),
    Run("qwen3-0.6b", 14, False, "--batch-size 64 --quantization none"),
    Run("qwen3-0.6b", 14, True, "--batch-size 64 --quantization none"),
    Run("qwen3-0.6b", 6, False, "--batch-size 16 --capture off"),
    Run("qwen2-3b", 20, False, "--batch-size 10 --optimizer adamw8bit"),
    Run("qwen2-3b", 20, True, "--batch-size 10 --optimizer adamw8bit"),
    Run("qwen2-3b", 5, True, "--batch-size 96 --num-prototypes 500 --seq-len 192"),
)


class Bench:
    """Makes the files as they are needed, and measures runs one after the other."""

    def __init__(self, folder: Path, tokenizer: Path, small: bool) -> None:
        self._folder, self._tokenizer, self._small = folder, tokenizer, small
        self._environment = {**os.environ, "TIMELLM_CACHE": str(folder / "cache")}
        make_ett(folder / "ett.csv", 6000, 60)

    def measure(self, run: Run) -> dict[str, Any]:
        """Bill and measurement of a run, in bytes; `fault` where it failed."""
        llm = self._llm(run)
        arguments = [
            "--dataset", "custom", "--data-path", str(self._folder / "ett.csv"), "--target", "OT", "--llm", str(llm),
            "--layers", str(run.layers), *run.options.split(),
        ]  # fmt: skip
        if self._small:
            arguments += ["--batch-size", "2", "--quantization", "auto", "--optimizer", "adam", "--capture", "auto"]
        if run.second:
            self._train(arguments)
        shutil.rmtree(self._folder / "checkpoints", ignore_errors=True)
        inspected = self._call("inspect", *arguments, "--json")
        if inspected.returncode:
            return {"fault": inspected.stderr.strip().splitlines()[0]}
        bill = json.loads(inspected.stdout)["memory"]
        return {"bill": bill["total"], **self._train(arguments)}

    def _train(self, arguments: list[str]) -> dict[str, Any]:
        """Train, and read the card's memory until scoring begins."""
        shutil.rmtree(self._folder / "checkpoints", ignore_errors=True)
        before, most = _taken(), 0
        command = [
            *TIMELLM,
            "train",
            *arguments,
            "--max-steps",
            str(STEPS),
            "--checkpoints",
            str(self._folder / "checkpoints"),
        ]
        log = (self._folder / "log.txt").open("w+", encoding="utf-8")
        process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log, cwd=self._folder)
        while process.poll() is None:
            if _is_measured(self._folder / "checkpoints"):
                break
            most = max(most, _taken())
            time.sleep(0.02)
        most = max(most, _taken())
        process.kill()  # what comes after is no step
        process.wait()
        found = [line for path in self._folder.glob("checkpoints/*/metrics.jsonl") for line in _events(path)]
        memory = next((line for line in found if line["event"] == "memory"), None)
        if memory is None:
            log.seek(0)
            return {"fault": (log.read().strip().splitlines() or ["no word"])[-1][:150]}
        return {"took": most - before, "torch_bill": memory["predicted"], "reserved": memory["reserved"]}

    def _llm(self, run: Run) -> Path:
        """The folder of the LLM with at least the layers of a run."""
        layers = max(other.layers for other in RUNS if other.shape == run.shape)
        folder = self._folder / run.shape
        if not folder.exists():
            for other in SHAPES:
                shutil.rmtree(self._folder / other, ignore_errors=True)
            shutil.rmtree(self._folder / "cache" / "prepared", ignore_errors=True)
            write_llm(folder, self._keys(run.shape, layers), self._tokenizer)
        return folder

    def _keys(self, shape: str, layers: int) -> dict[str, Any]:
        keys = {**SHAPES[shape], "num_hidden_layers": layers}
        return {**keys, **_llama(64, 4, 2, 128, 49_152), "model_type": keys["model_type"]} if self._small else keys

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*TIMELLM, *arguments], env=self._environment, cwd=self._folder, capture_output=True, text=True, check=False
        )


def write_llm(folder: Path, keys: dict[str, Any], tokenizer: Path) -> None:
    """A folder as it comes from a hub: config.json, tokenizer, and random weights in bfloat16."""
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModel

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**keys, "torch_dtype": "bfloat16"}), encoding="utf-8")
    copy_tokenizer(tokenizer, folder)
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.from_pretrained(folder))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weights = {
        f"model.{name}": (torch.randn(tensor.shape, device=device) * 0.02).bfloat16().cpu()
        for name, tensor in model.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def copy_tokenizer(tokenizer: Path, folder: Path) -> None:
    """The files of a tokenizer, into an LLM's folder."""
    for file in tokenizer.glob("tokenizer*"):
        shutil.copy(file, folder)


def _events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def _is_measured(checkpoints: Path) -> bool:
    return any('"memory"' in path.read_text(encoding="utf-8") for path in checkpoints.glob("*/metrics.jsonl"))


def _taken() -> int:
    if not torch.cuda.is_available():
        return 0
    import pynvml

    pynvml.nvmlInit()
    return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used)


def main() -> None:
    """Measure the runs asked for and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json, ids below 49,152")
    parser.add_argument("--first", type=int, default=1, help="number of the first run")
    parser.add_argument("--last", type=int, default=len(RUNS), help="number of the last run")
    parser.add_argument("--small", action="store_true", help="toy sizes on the CPU, to try the script")
    given = parser.parse_args()
    rows, errors = [], []
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(Path(temporary), given.tokenizer.resolve(), given.small)
        for number in range(given.first, given.last + 1):
            run, start = RUNS[number - 1], time.perf_counter()
            row = bench.measure(run)
            what = (
                f"{number} | {run.shape}, {run.layers} layers | {'second' if run.second else 'first'} | {run.options}"
            )
            if "fault" in row:
                rows.append(f"| {what} | {row['fault']} | | | |")
            else:
                took = max(row["took"], 1)
                errors.append(row["bill"] / took - 1)
                shown = [f"{row[key] // MIB:,}" for key in ("bill", "took", "torch_bill", "reserved")]
                rows.append(f"| {what} | {' | '.join(shown)} | {errors[-1]:+.1%} |")
            print(f"{rows[-1]} {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    print("| | LLM | start | options | bill MiB | took MiB | torch's part of the bill | torch reserved | bill |")
    print("|---|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    if errors:
        sizes = [abs(error) for error in errors]
        print(f"median {statistics.median(sizes):.1%}, largest {max(sizes):.1%}, lowest {min(errors):+.1%}")


if __name__ == "__main__":
    main()
