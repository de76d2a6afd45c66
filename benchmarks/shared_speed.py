"""One of the processes that measure speed together. Not a script: `processes.py` starts it, once for each GPU.

All sizes are measured in the same processes, in turn: while one GPU trains, the others wait. For each size there is a
group of the first processes and a training of its own; the frozen LLM and the weights are the same.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from runs import Job, ProjectTraining, Workplace, give_memory_back

from timellm_cli.evaluation.score import score
from timellm_cli.processes.group import Group, SeveralProcesses
from timellm_cli.processes.place import Place, find_place

ROUNDS = 3
NUMBERS = 2**22
"""About as many as the gradients of the largest runs here."""
LEAST_SCORED = 1024
Row = dict[str, Any]


class FirstProcesses(SeveralProcesses):
    """The first `size` of all processes."""

    def __init__(self, place: Place, members: dist.ProcessGroup) -> None:
        Group.__init__(self, place)
        self._patience, self._members = timedelta(minutes=2), members

    def _exchange(self, function: Any, *arguments: Any) -> None:
        super()._exchange(partial(function, group=self._members), *arguments)


class Bench:
    """This process's part of all measurements."""

    def __init__(self, folder: Path, small: bool, sizes: list[int]) -> None:
        self.place, self.small = find_place(), small
        self.device = torch.device("cpu" if small else "cuda")
        if not small:
            torch.cuda.set_device(self.place.local_rank)
        self.all = SeveralProcesses(self.place, self.device) if self.place.size > 1 else Group(self.place)
        self.groups: dict[int, Group] = {}
        backend, wait = "gloo" if small else "cpu:gloo,cuda:nccl", timedelta(minutes=2)
        for size in sizes:
            members = dist.new_group(list(range(size)), timeout=wait, backend=backend) if size > 1 else None
            if self.place.rank < size:
                own = Place(self.place.rank, size, self.place.rank, size)
                self.groups[size] = FirstProcesses(own, members) if members else Group(own)
        self.workplace = Workplace(folder, self.device, "fp32" if small else "bf16")

    def wait_for_all(self) -> None:
        """Until every process is here."""
        self.all.any(False)

    def seconds(self, size: int, work: Callable[[], object]) -> float | None:
        """How long the first `size` processes take for it together. None where this one has no part in it."""
        self.wait_for_all()
        if size not in self.groups:
            return None
        begun = self._now(size)
        work()
        return self._now(size) - begun

    def _now(self, size: int) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.groups[size].any(False)
        return time.perf_counter()

    def outside_torch(self) -> float:
        """MiB of the GPU that are taken and that torch has not reserved."""
        if self.device.type != "cuda":
            return 0.0
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info()
        return (total - free - torch.cuda.memory_reserved()) / 2**20


def measure_nccl(bench: Bench, sizes: Iterable[int]) -> list[Row]:
    """What the first sums take of each GPU, a short and a long one. The figures of all processes, in their order."""
    rows = []
    numbers = torch.zeros(NUMBERS, device=bench.device)

    def add(size: int, count: int) -> None:
        bench.groups[size].sum_(numbers[:count])

    for size in sizes:
        before, taken, seconds = bench.outside_torch(), [], []
        for count in (64, NUMBERS):
            bench.seconds(size, partial(add, size, count))
            taken.append(bench.outside_torch() - before)
        for _ in range(20):
            seconds.append(bench.seconds(size, partial(add, size, NUMBERS)))
        every = [json.loads(text) for text in bench.all.texts(json.dumps(taken))][:size]
        sum_ms = 1000 * statistics.median(seconds) if seconds[0] else None
        rows.append({"part": "nccl", "gpus": size, "mib": every, "sum_ms": sum_ms, "numbers": NUMBERS})
    return rows


def measure_job(bench: Bench, layers: int, batch: int, sizes: list[int], steps: int) -> list[Row]:
    """A row for each number of GPUs, with the same samples a GPU."""
    shape = "toy" if bench.small else "qwen2.5-3b"
    settings = {"run.directory": bench.workplace.folder / f"runs-{bench.place.rank}"}
    jobs = {size: Job("processes", "ours", shape, layers, batch * size, settings=settings) for size in sizes}
    data, runner = bench.workplace.load(jobs[sizes[0]])
    at_once, own = 4 * batch, [size for size in sizes if size in bench.groups]
    rows = {size: {"part": "speed", "layers": layers, "batch": batch, "gpus": size} for size in sizes}

    def scoring(size: int, samples: int) -> float:
        """Mean squared error; `samples` are those of one GPU."""
        windows = -(-samples * size // 7)
        return score(runner, data, "val", at_once, limit=windows, group=bench.groups[size]).mse

    few = 8 * at_once
    many = few if bench.small else max(few, LEAST_SCORED)
    for size in sizes:  # the weights are still the same everywhere: so must the figures be
        bench.seconds(size, lambda size=size: rows[size].update(mse=scoring(size, few // size)))
    runs = {size: ProjectTraining(bench.workplace.config(jobs[size]), data, runner, bench.groups[size]) for size in own}
    for size in sizes:
        bench.seconds(size, lambda size=size: [runs[size].step() for _ in range(4)])
    weights = torch.zeros(sum(one.numel() for one in runner.model.trainable_weights().values()), device=bench.device)
    kinds: dict[str, Callable[[int], object]] = {
        "step": lambda size: [runs[size].step() for _ in range(steps)],
        "exchange": lambda size: [bench.groups[size].sum_(weights) for _ in range(10)],
        **{f"score_{count}": partial(scoring, samples=count) for count in sorted({few, many})},
    }
    units = {"step": steps, "exchange": 10}
    for _ in range(ROUNDS):
        for kind, work in kinds.items():
            for size in sizes:
                taken = bench.seconds(size, partial(work, size))
                if taken is not None:
                    rows[size].setdefault(kind, []).append(taken / units.get(kind, 1))
    for run in runs.values():
        run.close()
    return list(rows.values())


def work(given: Any) -> None:
    """Measure all jobs that there is time for; the first process writes the rows after each."""
    bench = Bench(given.folder, given.small, given.gpus)
    begun = time.perf_counter()
    before, longest = bench.outside_torch(), 30.0
    rows = measure_nccl(bench, [size for size in given.gpus if size > 1])
    jobs = [] if given.part == "nccl" else [(layers, batch) for batch in given.batches for layers in given.layers]
    for layers, batch in jobs:
        started = time.perf_counter()
        enough = started - begun + longest < given.limit
        if bench.all.text_of_first("go on" if enough else "stop") == "stop":
            break
        rows += measure_job(bench, layers, batch, given.gpus, given.steps)
        give_memory_back(bench.device)
        _write(bench, given.rows, rows)
        longest = max(longest, time.perf_counter() - started)
    taken = bench.all.texts(f"{bench.outside_torch() - before:.1f}")
    rows.append({"part": "end", "outside_torch_mib": taken, "torch": torch.__version__, "gpu": _name(bench.device)})
    _write(bench, given.rows, rows)
    bench.all.close()


def _write(bench: Bench, path: Path, rows: list[Row]) -> None:
    if bench.place.is_first:
        print(rows[-1], flush=True)
        path.write_text(json.dumps(rows), encoding="utf-8")


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
