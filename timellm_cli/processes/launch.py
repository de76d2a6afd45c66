"""Starts the processes of one command on this machine, and watches them. Light.

Each is this very command once more, with the variables that torchrun sets. The first one prints as usual; the others
print only what went wrong in them.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from timellm_cli.errors import ExitCode
from timellm_cli.processes.faults import FOLDER, read_faults, report_loss
from timellm_cli.processes.patience import patience

_GRACE = 60.0
"""Seconds that the others have to save and end after one process failed, before they are killed."""
_PAUSE = 0.1
_PARENT = "TIMELLM_LAUNCHER"
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


def is_launched() -> bool:
    """Whether `launch` started this process."""
    return _PARENT in os.environ


def launch(processes: int, arguments: Sequence[str], on_loss: Callable[[str], None], threads: int) -> int:
    """Run `timellm` with these arguments in so many processes; returns the exit code.

    Signals are passed on to all. `on_loss` is called with a sentence where a process ended by itself. `threads` are
    those that each may compute with on a CPU.
    """
    grace = min(_GRACE, patience())
    with TemporaryDirectory() as faults:
        children = _start(processes, arguments, threads, faults)
        before = {number: signal.signal(number, lambda got, _: _send(children, got)) for number in _numbers()}
        try:
            code = _watch(children, on_loss, Path(faults), grace)
        finally:
            for child in children:
                child.kill()
                child.wait()
            for number, handler in before.items():
                signal.signal(number, handler)
        for fault in read_faults(Path(faults), processes):
            on_loss(fault)
    return code


def end_with_launcher() -> None:
    """In a launched process: request a stop, as Ctrl-C does, once the launcher is gone."""
    parent = int(os.environ[_PARENT])

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True, name="launcher").start()


def _start(processes: int, arguments: Sequence[str], threads: int, faults: str) -> list[subprocess.Popen[bytes]]:
    common = {
        "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", "TORCH_CPP_LOG_LEVEL": "ERROR",
        **os.environ,
        "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()), _PARENT: str(os.getpid()),
        FOLDER: faults,
    }  # fmt: skip
    command = [sys.executable, "-m", "timellm_cli", *arguments]
    # In sessions of their own: else Ctrl-C in a terminal would reach them twice, and twice means at once.
    return [
        subprocess.Popen(
            command, env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, start_new_session=True,
            stdout=None if rank == 0 else subprocess.DEVNULL, stderr=None if rank == 0 else subprocess.DEVNULL,
        )
        for rank in range(processes)
    ]  # fmt: skip


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _watch(children: list[subprocess.Popen[bytes]], on_loss: Callable[[str], None], faults: Path, grace: float) -> int:
    end = float("inf")
    while any(child.poll() is None for child in children) and time.monotonic() < end:
        failed = next((rank for rank, child in enumerate(children) if child.poll()), None)
        if failed is not None and end == float("inf"):
            end = time.monotonic() + grace
            _tell_loss(failed, children, on_loss, faults)
        time.sleep(_PAUSE)
    if late := [rank for rank, child in enumerate(children) if child.poll() is None]:
        on_loss(f"process {late[0]} of {len(children)} did not end within {grace:.0f} seconds and was killed")
    codes = [child.returncode for child in children]
    return next((int(code) if code > 0 else int(ExitCode.MODEL) for code in codes if code), 0)


def _tell_loss(
    failed: int, children: list[subprocess.Popen[bytes]], on_loss: Callable[[str], None], faults: Path
) -> None:
    """Tell the other processes of one that has failed, and the user where it could not say so itself."""
    code = children[failed].returncode
    if code == ExitCode.INTERRUPTED:  # they all stop
        return
    if code > 0:
        report_loss(faults, f"process {failed} ended with exit code {code}")
        return
    name = signal.Signals(-code).name
    report_loss(faults, f"process {failed} was ended by {name}")
    on_loss(f"process {failed} of {len(children)} was ended by {name}; the others save and end")


def _send(children: list[subprocess.Popen[bytes]], number: int) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)


def _numbers() -> list[int]:
    named = (getattr(signal, name) for name in _SIGNALS if hasattr(signal, name))
    return [number for number in named if signal.getsignal(number) != signal.SIG_IGN]
