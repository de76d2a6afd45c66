"""Where the GPU's time goes in a step of a variant: the share it is busy, and its longest kernels.

python benchmarks/profile_step.py --tokenizer FOLDER [--variant ours] [--shape qwen2.5-3b] [--layers 36] [--batch 8]
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from gpu_profiles import make_ett
from random_llm import SHAPES, make_folder
from runs import Workplace
from variants import VARIANTS, Job

STEPS = 5


def main() -> None:
    """Warm up, profile a few steps, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json, ids below 49,152")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="ours")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen2.5-3b")
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--quantization", choices=("nf4", "none"), default="nf4")
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--rows", type=int, default=20)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = torch.profiler.ProfilerActivity
    job = Job(
        "profile", arguments.variant, arguments.shape, arguments.layers, arguments.batch, arguments.quantization,
        arguments.seq_len,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_folder(folder / job.shape, job.shape, arguments.tokenizer)
        make_ett(folder / "ett.csv", 69_680, 15)
        place = Workplace(folder, device, "bf16" if device.type == "cuda" else "fp32")
        with place.running(job) as run:
            for _ in range(4):
                run.step()
            start = time.perf_counter()
            for _ in range(STEPS):
                run.step()
            seconds = time.perf_counter() - start
            with torch.profiler.profile(activities=[kind.CUDA if device.type == "cuda" else kind.CPU]) as profiler:
                for _ in range(STEPS):
                    run.step()
    events = profiler.key_averages()
    print(events.table(sort_by=f"self_{device.type}_time_total", row_limit=arguments.rows, max_name_column_width=90))
    busy = sum(event.self_device_time_total for event in events) / 1e6
    step, busy_step = seconds / STEPS * 1000, busy / STEPS * 1000
    print(f"{step:.1f} ms a step unprofiled, GPU busy {busy_step:.1f} ms: {busy_step / step:.0%}")


if __name__ == "__main__":
    main()
