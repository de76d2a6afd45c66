"""Training steps of the quickstart on a CPU, plain against ours: SmolLM2's real weights, real data, taking turns.

    timellm fetch quickstart
    python benchmarks/quickstart.py [--json FILE] [--rounds 6] [--steps 5]

Both run in one process, each a few steps in turn. Prints the median milliseconds of a step, and the ratio.
One to four minutes on two cores.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from plain import PlainTimeLLM, PlainTraining
from runs import ProjectTraining, Run, make_encoder

from timellm_cli.config import Config
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.llm_files import find_llm
from timellm_cli.model.llm.transformers_loading import load_with_transformers
from timellm_cli.model.load import load_model
from timellm_cli.settings import resolve
from timellm_cli.training.state import seed_everything

CPU = torch.device("cpu")


def quickstart_config(runs: Path) -> Config:
    """The profile, resolved for this CPU, with the LLM's folder in place of its name."""
    config = resolve("quickstart").config
    folder = find_llm(config.llm.name)
    if folder is None:
        raise SystemExit(f"LLM '{config.llm.name}' is not on this computer: timellm fetch quickstart")
    return config.with_values(
        {
            "llm.name": str(folder), "train.precision": "fp32", "train.epochs": 1000, "run.directory": runs,
            "run.log_steps": 10**9, "hardware.capture": "off", "hardware.recompute": "off",
        }
    )  # fmt: skip


def start(config: Config, data: ForecastData) -> dict[str, Run]:
    """Both runs."""
    seed_everything(0)
    llm = load_with_transformers(config.llm, "fp32", Path(config.llm.name), CPU).llm
    plain = PlainTraining(config, PlainTimeLLM(config, llm), data.training_windows(), make_encoder(config))
    return {"plain": plain, "ours": ProjectTraining(config, data, load_model(config, CPU))}


def measure(runs: dict[str, Run], rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds of each run's steps, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            for _ in range(steps):
                began = time.perf_counter()
                run.step()
                if turn:
                    seconds[name].append(time.perf_counter() - began)
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="append a JSON object a row to this file")
    parser.add_argument("--rounds", type=int, default=6, help="counted turns of each")
    parser.add_argument("--steps", type=int, default=5, help="steps a turn")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        config = quickstart_config(Path(temporary))
        runs = start(config, load_data(config))
        seconds = measure(runs, arguments.rounds, arguments.steps)
        for run in runs.values():
            run.close()
    rows = [
        {"part": "quickstart", "variant": name, "batch": config.train.batch_size, "layers": config.llm.layers,
         "seconds": statistics.median(times), "fastest": min(times), "slowest": max(times), "steps": len(times),
         "threads": torch.get_num_threads(), "torch": torch.__version__}
        for name, times in seconds.items()
    ]  # fmt: skip
    if arguments.json:
        with arguments.json.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    print(f"{'variant':8} {'ms':>8} {'fastest':>8} {'slowest':>8}   {torch.get_num_threads()} threads")
    for row in rows:
        print(
            f"{row['variant']:8} " + " ".join(f"{row[name] * 1000:8.1f}" for name in ("seconds", "fastest", "slowest"))
        )
    print(f"plain / ours: {rows[0]['seconds'] / rows[1]['seconds']:.2f}")


if __name__ == "__main__":
    main()
