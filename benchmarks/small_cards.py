"""Profiles of small cards in fp16 under their card's memory, and the memory bill line by line, on one large GPU.

    python benchmarks/small_cards.py --tokenizer FOLDER --output FOLDER [--runs N ...] [--seconds 290] [--small]

Each run is the real `timellm train`, a process of its own (`phases.py`), with an LLM of the exact shape whose weights
are drawn on the GPU: its file has a header and no content, so nothing of 16 GB is written. One file of prepared layers
serves all runs of a profile. Nobody else may use the card.

The runs of `CARDS` compute in fp16, as a card without bf16 does, and may reserve what the card has beside the context
that the bill gives it. A card of capability 7.5 itself cannot be had here: its own matrix and attention kernels,
bitsandbytes' for it, and its speed are not tried. The runs of `MISSES` had bills that were wrong; their phases say
which line. Those of `LARGE_NUMBERS` have numbers between their layers that fp16 cannot hold, in fp16 and in float32.

Writes OUTPUT/small_cards.jsonl, a line a run, as it goes; prints a table at the end.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_profiles import LLAMA_8B, QWEN_3B, make_ett
from phases import driver_bytes
from real_commands import SHAPES, copy_tokenizer

from timellm_cli.model.llm.choice import names_of_tensors, shape_of_tensor

MIB = 2**20
PROGRAM = Path(__file__).with_name("phases.py")
ENLARGED = 2e5
"""Brings the numbers between the layers to about 200,000; fp16 ends at 65,504."""
WINDOWS = {"without_triton": True, "in_one_piece": False}
KEYS = {"llama-8b": LLAMA_8B, "qwen-3b": QWEN_3B, **SHAPES}


@dataclass(frozen=True)
class Run:
    """One command. `card`: whose memory the process may take. `traced`: what torch's allocator does is written down."""

    name: str
    shape: str
    options: str
    card: str | None = None
    without_triton: bool = False
    in_one_piece: bool = True
    enlarged: float = 1.0
    traced: bool = False
    steps: int = 12


def _profile(name: str, shape: str, card: str, data: str, precision: str = "fp16", **given: Any) -> Run:
    options = f"--profile {name} --data-path {data} --precision {precision} --window-stride 500"
    if "enlarged" in given:  # other weights than those prepared
        options += " --no-prepared"
    return Run(f"{name}, {precision}", shape, options, card, steps=30, **given)


def _miss(shape: str, layers: int, options: str, traced: bool = False) -> Run:
    return Run(f"{shape}, {layers} layers", shape, f"--layers {layers} --window-stride 12 {options}", traced=traced)


_INT8 = _miss("mistral-7b", 4, "--batch-size 8 --quantization int8 --accumulate 4")
_QWEN3 = "--batch-size 16 --capture"
MISSES = (
    _INT8, _INT8,  # the second one finds prepared layers
    _miss("qwen3-0.6b", 6, f"{_QWEN3} off"), _miss("qwen3-0.6b", 6, f"{_QWEN3} on"),
    _miss("smollm2-360m", 24, "--batch-size 32 --quantization none --seq-len 720 --recompute on", traced=True),
    _miss("smollm2-360m", 24, "--batch-size 32 --quantization none --seq-len 720 --recompute off"),
    _miss("tinyllama-1.1b", 12, "--batch-size 12 --seq-len 96 --pred-len 24"),
)  # fmt: skip
_QWEN = ("ettm1-qwen3b-6gb", "qwen-3b", "GTX 1660 Ti", "ETTm1.csv")
_LLAMA = ("etth1-llama3-8b-t4", "llama-8b", "T4", "ETTh1.csv")
CARDS = (
    _profile(*_LLAMA), _profile(*_LLAMA, without_triton=True), _profile(*_LLAMA, **WINDOWS),
    _profile(*_QWEN), _profile(*_QWEN, without_triton=True), _profile(*_QWEN, **WINDOWS),
)  # fmt: skip
LARGE_NUMBERS = (
    _profile(*_QWEN, enlarged=ENLARGED), _profile(*_QWEN, "fp32", enlarged=ENLARGED), _profile(*_QWEN, "bf16"),
)  # fmt: skip
RUNS = (*CARDS, *MISSES, *LARGE_NUMBERS)


class Bench:
    """Makes the files as they are needed, and measures runs one after the other."""

    def __init__(self, folder: Path, tokenizer: Path, small: bool) -> None:
        self._folder, self._tokenizer, self._small = folder, tokenizer, small
        make_ett(folder / "ett.csv", 6000, 60)
        make_ett(folder / "ETTh1.csv", 17_420, 60)
        make_ett(folder / "ETTm1.csv", 69_680, 15)

    def measure(self, run: Run) -> dict[str, Any]:
        """Phases, losses and the bill's lines of a run."""
        keys = dict(KEYS[run.shape])
        if self._small:
            keys |= {
                "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128,
                "vocab_size": 49_152, "head_dim": 16,
            }  # fmt: skip
        keys.setdefault("num_hidden_layers", 24)
        llm = self._folder / run.shape
        if not llm.exists():
            write_hollow_llm(llm, keys, self._tokenizer)
        words = ["--llm", str(llm), "--target", "OT", *run.options.split()]
        if "--profile" not in run.options:
            words += ["--dataset", "custom", "--data-path", "ett.csv"]
        if self._small:
            words += ["--batch-size", "2", "--precision", "fp32", "--optimizer", "adam", "--layers", "2"]
            words += ["--quantization", "auto", "--capture", "auto", "--recompute", "auto"]
        report, task = self._folder / "report.jsonl", self._folder / "task.json"
        report.write_text("", encoding="utf-8")
        task.write_text(json.dumps({
            "report": str(report), "before": driver_bytes(), "keys": keys, "enlarged": run.enlarged,
            "device": "cpu" if self._small else "cuda", "cap": self._cap(run, words),
            "without_triton": run.without_triton, "in_one_piece": run.in_one_piece, "traced": run.traced,
        }), encoding="utf-8")  # fmt: skip
        runs = self._folder / f"runs-{time.monotonic_ns()}"
        words += ["--max-steps", str(run.steps), "--log-steps", "1", "--checkpoints", str(runs), "--run-name", "run"]
        environment = {
            **os.environ, "TIMELLM_CACHE": str(self._folder / "cache"),
            "PYTORCH_CUDA_ALLOC_CONF": f"expandable_segments:{run.in_one_piece}",
        }  # fmt: skip
        start = time.perf_counter()
        ended = subprocess.run(
            [sys.executable, str(PROGRAM), str(task), "train", *words], env=environment, cwd=self._folder,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        found = {"exit": ended.returncode, "seconds": round(time.perf_counter() - start, 1), "said": said(ended.stderr)}
        return {**vars(run), **found, "phases": lines_of(report), "metrics": lines_of(runs / "run" / "metrics.jsonl")}

    def _cap(self, run: Run, words: list[str]) -> int | None:
        """What torch may reserve on the run's card: all but the desktop's part and the context of the bill."""
        if run.card is None:
            return None
        command = [sys.executable, "-m", "timellm_cli", "inspect", *words, "--gpu", run.card, "--json"]
        planned = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False)
        memory = json.loads(planned.stdout)["memory"]
        parts = memory["parts"]
        from timellm_cli.planning.hardware import find_card

        return int(find_card(run.card).gpu.free_bytes - parts.get("cuda_context", 0))


def write_hollow_llm(folder: Path, keys: dict[str, Any], tokenizer: Path) -> None:
    """An LLM's folder whose file of weights has its full length, and takes no room on the disk."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**keys, "torch_dtype": "bfloat16"}), encoding="utf-8")
    copy_tokenizer(tokenizer, folder)
    header, end = {}, 0
    for name in names_of_tensors(keys, keys["num_hidden_layers"]):
        shape = shape_of_tensor(keys, name)
        size = 2 * math.prod(shape)
        header[f"model.{name}"] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    described = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(described).to_bytes(8, "little") + described)
        file.truncate(8 + len(described) + end)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one a line."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def said(text: str) -> list[str]:
    """The notes and errors of a run, and its last lines."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [line[:300] for line in lines if "note" in line or "warning" in line or "rror" in line][:8] + lines[-3:]


COLUMNS = (
    "run", "kernels", "allocated: bill", "measured", "reserved: bill", "measured", "context: bill", "measured",
    "in all: bill", "measured", "loading reserved", "bill", "losses", "updates left out", "largest number", "took",
)  # fmt: skip
"""Memory in MiB."""


def summary(row: dict[str, Any]) -> str:
    """A line of the table."""
    phases, losses = row["phases"], [line["loss"] for line in row["metrics"] if line["event"] == "step"]
    memory = next((line for line in row["metrics"] if line["event"] == "memory"), None)
    if memory is None or not any(line["phase"] == "steps" for line in phases):
        return f"| {row['name']} | exit {row['exit']}: {' '.join(row['said'][-1:])[:160]} |"
    loaded = next(line for line in phases if line["phase"] == "loaded")
    numbers = _memory(phases, loaded, memory)
    left_out = sum(line["left_out"] for line in phases if line["phase"] == "scaler")
    largest = max((line["largest"] for line in phases if line["phase"] == "number"), default=0.0)
    name = row["name"] if row["card"] else f"{row['name']}, {row['options'].partition('--window-stride 12 ')[2]}"
    finite = "finite" if all(map(math.isfinite, losses)) else "NOT FINITE"
    cells = [
        f"{name}{', enlarged' if row['enlarged'] > 1 else ''}",
        f"{loaded['kernels']}{'' if row['in_one_piece'] else ', in pieces'}",
        *(f"{number / MIB:,.0f}" for number in numbers),
        f"{numbers[6] / numbers[7] - 1:+.1%}" if numbers else "",
        f"{len(losses)} {finite}, {losses[0]:.4f} to {losses[-1]:.4f}",
        f"{left_out}", f"{largest:,.0f}", f"{row['seconds']} s, exit {row['exit']}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _memory(phases: list[dict[str, Any]], loaded: dict[str, Any], memory: dict[str, Any]) -> list[float]:
    """Bill and measured, in bytes, of what torch allocates, what it reserves, the context, and all; then of loading."""
    read = [line for line in phases[phases.index(loaded) + 1 :] if "most_reserved" in line]
    if not read:
        return []
    steps = next(index for index, line in enumerate(read) if line["phase"] == "steps")
    read, parts = read[: steps + 1], memory["parts"]
    total, context, holes = sum(parts.values()), parts["cuda_context"], parts["allocator"]
    reserved = max(line["most_reserved"] for line in read)
    measured = read[-1]["driver"] - read[-1]["reserved"]
    allocated = max(line["most_allocated"] for line in read)
    return [
        total - context - holes, allocated, total - context, reserved, context, measured, total, reserved + measured,
        loaded["most_reserved"],
    ]  # fmt: skip


def main() -> None:
    """Measure the runs asked for and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json, ids below 49,152")
    parser.add_argument("--output", type=Path, required=True, help="write small_cards.jsonl into this folder")
    parser.add_argument("--runs", type=int, nargs="+", help=f"numbers from 1 to {len(RUNS)}; default: all of them")
    parser.add_argument("--seconds", type=float, default=3600, help="start nothing after so many seconds")
    parser.add_argument("--small", action="store_true", help="toy sizes on the CPU, to try the script")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    rows, begun = [], time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(Path(temporary), given.tokenizer.resolve(), given.small)
        for number in given.runs or range(1, len(RUNS) + 1):
            if time.monotonic() - begun > given.seconds:
                break
            rows.append({"number": number, **bench.measure(RUNS[number - 1])})
            with (given.output / "small_cards.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(f"{number} {summary(rows[-1])}", file=sys.stderr, flush=True)
    print(f"| {' | '.join(COLUMNS)} |")
    print("|---" * len(COLUMNS) + "|")
    print("\n".join(map(summary, rows)))


if __name__ == "__main__":
    main()
