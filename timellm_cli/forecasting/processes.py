"""Shares the parts of a forecast out to processes of their own, one for each GPU or several on a CPU."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from timellm_cli.errors import ConfigError, DataError, ExitCode, ModelError, TimellmError
from timellm_cli.forecasting.shards import Shards

_TRIES = 2
"""So often a part is begun whose process died, before that ends the forecast."""
_SECONDS_BETWEEN_LOOKS = 0.2
"""Where polars is loaded, Ctrl-C does not interrupt a wait without an end: it is seen when the wait is over."""
_ERRORS: dict[int, type[TimellmError]] = {
    ExitCode.USAGE: ConfigError, ExitCode.DATA: DataError, ExitCode.MODEL: ModelError,
}  # fmt: skip


def forecast_parts(
    shards: Shards, numbers: Sequence[int], environments: Sequence[dict[str, str]], on_done: Callable[[int], None]
) -> None:
    """Forecast these parts in a process for each of `environments`; `on_done` is called with the number of each.

    A part whose process dies is begun once more by another one. Raises what a process reports, and ModelError where a
    part ends its process twice. All processes have ended when it returns or raises.
    """
    pool = _Pool(shards, numbers)
    workers = [threading.Thread(target=pool.run_worker, args=(environment,)) for environment in environments]
    try:
        for worker in workers:
            worker.start()
        left = set(numbers)
        while left:
            try:
                done = pool.results.get(timeout=_SECONDS_BETWEEN_LOOKS)
            except queue.Empty:
                continue
            if isinstance(done, Exception):
                raise done
            left.discard(done)
            on_done(done)
    finally:
        pool.stop()
        for worker in workers:
            if worker.ident is not None:
                worker.join()


def environments_of(count: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """The environment variables of each of `count` processes: a GPU of its own, or a share of the processor's cores.

    `gpus` are the ids of the cards that are used; none for the CPU. Raises ConfigError for more processes than cards.
    """
    if gpus:
        if count > len(gpus):
            raise ConfigError(
                f"--processes {count}: there are {len(gpus)} GPUs here, and each process takes one",
                f"--processes {len(gpus)}, or --device cpu",
            )
        return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:count]]
    if "OMP_NUM_THREADS" in os.environ:
        return [{}] * count
    return [{"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // count, 1))}] * count


class _Pool:
    """The parts to do, the processes that do them, and what came of each part: its number, or an error."""

    def __init__(self, shards: Shards, numbers: Sequence[int]) -> None:
        self._shards = shards
        self._open: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        for number in numbers:
            self._open.put(number)
        self.results: queue.SimpleQueue[int | Exception] = queue.SimpleQueue()
        self._tries: Counter[int] = Counter()
        self._running: list[subprocess.Popen[str]] = []
        self._lock = threading.Lock()
        self._stopped = False

    def stop(self) -> None:
        """End every process. A part that is being written stays out."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()
        self._open.put(None)

    def run_worker(self, environment: dict[str, str]) -> None:
        """Keep one process busy until no part is left; a dead one is replaced."""
        while not self._stopped:
            process = self._start(environment)
            if process is None:
                return
            with process:
                if self._feed(process):
                    return

    def _start(self, environment: dict[str, str]) -> subprocess.Popen[str] | None:
        with self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(
                [sys.executable, "-m", "timellm_cli.forecasting.shard_worker", str(self._shards.output)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(_paths())},
                start_new_session=True,  # Ctrl-C reaches the process that shares out, which ends these
            )
            self._running.append(process)
            return process

    def _feed(self, process: subprocess.Popen[str]) -> bool:
        """Give a process part after part. False where it died and another one should go on."""
        assert process.stdin is not None
        number: int | None = None
        if not self._answered(process):
            return self._note_death(process, None)
        while (number := self._open.get()) is not None:
            try:
                process.stdin.write(f"{number}\n")
                process.stdin.flush()
            except OSError:
                return self._note_death(process, number)
            if not self._answered(process):
                return self._note_death(process, number)
        self._open.put(None)
        return True

    def _answered(self, process: subprocess.Popen[str]) -> bool:
        """Pass on what the process answers; False where it died without an answer."""
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.endswith("\n"):
            return False
        answer = json.loads(line)
        if "error" in answer:
            kind = _ERRORS.get(answer["code"])
            self.results.put(kind(answer["error"], answer["hint"]) if kind else RuntimeError(answer["error"]))
            self._stopped = True
        elif "done" in answer:
            self.results.put(answer["done"])
        return True

    def _note_death(self, process: subprocess.Popen[str], number: int | None) -> bool:
        """Begin the part again, once. A process that dies before it is ready, or a part that ends two, is an error."""
        if self._stopped:
            return True
        self._tries[-1 if number is None else number] += 1
        if number is not None and self._tries[number] < _TRIES:
            self._open.put(number)
            return False
        what = "while it loaded the model" if number is None else f"{_TRIES} times at part {number}"
        self.results.put(
            ModelError(
                f"a process of the forecast died {what} (exit code {process.wait()}): often the memory is too small",
                "use fewer --processes; the parts that are done are kept, and the same command goes on",
            )
        )
        return True


def _paths() -> list[str]:
    """Where the processes find this package, installed or not, and what the user has set."""
    return [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
