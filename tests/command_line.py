"""The real command line, in this process or in a new one: the same arguments in, the same finished process out."""

import atexit
import gc
import io
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

SURROUNDINGS = {"COLUMNS": "120", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
Finished = subprocess.CompletedProcess[str]


def run_process(arguments: Sequence[str], cwd: Path, stdin: str | None = None, **environment: str) -> Finished:
    """Run it as people do: in a new process, with pipes for streams."""
    return subprocess.run(
        [sys.executable, "-m", "timellm_cli", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        timeout=300,
        check=False,
        env={**os.environ, **SURROUNDINGS, **environment},
    )


def run_here(arguments: Sequence[str], cwd: Path, stdin: str | None = None, **environment: str) -> Finished:
    """Run the entry point in this process, which is left as it was. The streams are files, as behind `> file`."""
    with tempfile.TemporaryFile(buffering=0) as out, tempfile.TemporaryFile(buffering=0) as err:
        streams = {
            "stdin": io.TextIOWrapper(io.BytesIO((stdin or "").encode("utf-8")), "utf-8"),
            "stdout": io.TextIOWrapper(io.BufferedWriter(out), "utf-8"),
            "stderr": io.TextIOWrapper(io.BufferedWriter(err), "utf-8", line_buffering=True),
        }
        with _restored_process(), _restored_libraries():
            os.environ.update({**SURROUNDINGS, **environment})
            os.chdir(cwd)
            vars(sys).update(streams, argv=["timellm", *arguments])
            code = _call_entry_point()
        written = []
        for file in (out, err):
            file.seek(0)
            written.append(file.read().decode("utf-8").replace("\r\n", "\n"))
        return subprocess.CompletedProcess(["timellm", *arguments], code, *written)


def _call_entry_point() -> int:
    """The exit code that Python would give, with what it would print."""
    from timellm_cli import cli, console

    for stream in (console.out, console.err):  # width and colours are read where a console is made
        vars(stream).update(vars(type(stream)(stderr=stream.stderr, markup=False, emoji=False, highlight=False)))
    try:
        cli.main()
        code: object = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    if not isinstance(code, int):
        print(code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code) if isinstance(code, int) else 1


@contextmanager
def _restored_process() -> Iterator[None]:
    """Put back streams, arguments, environment, folder, signals, hooks, warnings, loggers and the collector."""
    kept = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr", "argv", "excepthook")}
    environment, folder, collects = dict(os.environ), Path.cwd(), gc.isenabled()
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    loggers = [logging.root, *(one for one in logging.root.manager.loggerDict.values() if hasattr(one, "handlers"))]
    levels = [(one, one.level, one.disabled, one.propagate, one.handlers[:]) for one in loggers]
    _forget_cached()
    try:
        with warnings.catch_warnings():
            warnings.resetwarnings()  # then as Python starts: shown once a place, but for what only programmers want
            for unwanted in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                warnings.simplefilter("ignore", unwanted)
            warnings.showwarning = _show_warning
            yield
    finally:
        _release_streams()
        for one, level, disabled, propagate, of_logger in levels:
            one.setLevel(level)
            one.disabled, one.propagate, one.handlers[:] = disabled, propagate, of_logger
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        vars(sys).update(kept)
        atexit.unregister(gc.freeze)
        (gc.enable if collects else gc.disable)()
        _forget_cached()


def _release_streams() -> None:
    """A library loaded by the command may have bound its log to the command's stderr, which is closed soon."""
    for one in list(logging.root.manager.loggerDict.values()):
        for handler in getattr(one, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.stderr):
                vars(handler).pop("flush", None)  # transformers binds that, too
                handler.setStream(sys.__stderr__)


def _show_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def _forget_cached() -> None:
    """A new process has cached nothing."""
    for name, module in list(sys.modules.items()):
        if name.startswith("timellm_cli"):
            for one in list(vars(module).values()):
                if hasattr(one, "cache_clear"):
                    one.cache_clear()


@contextmanager
def _restored_libraries() -> Iterator[None]:
    """Put back the random state and settings of what is loaded: torch, numpy, matplotlib, transformers."""
    with ExitStack() as after:
        after.callback(random.setstate, random.getstate())
        if numpy := sys.modules.get("numpy"):
            after.callback(numpy.random.set_state, numpy.random.get_state())
        if matplotlib := sys.modules.get("matplotlib"):
            after.enter_context(matplotlib.rc_context())
        if (logs := sys.modules.get("transformers.utils.logging")) and logs.is_progress_bar_enabled():
            after.callback(logs.enable_progress_bar)
        if torch := sys.modules.get("torch"):
            for flag in ("deterministic", "benchmark"):
                after.callback(setattr, torch.backends.cudnn, flag, getattr(torch.backends.cudnn, flag))
            for put_back, value in (
                (torch.set_rng_state, torch.get_rng_state()),
                (torch.set_num_threads, torch.get_num_threads()),
                (torch.set_default_dtype, torch.get_default_dtype()),
                (torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()),
                (torch.set_grad_enabled, torch.is_grad_enabled()),
                (torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled()),
            ):
                after.callback(put_back, value)
        yield
