"""Ctrl-C, SIGTERM and SIGHUP request a stop after the current step; one of them once more ends the program at once.

SIGHUP comes when the terminal is closed, often twice: it never ends the program at once. Where it is ignored, as under
nohup, it stays so.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from timellm_cli.errors import Interrupted

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # SIGBREAK: Ctrl-Break, on Windows only


class Interruption:
    """Whether the user has requested a stop. `on_request` is called at the first request."""

    def __init__(self, on_request: Callable[[], None] = lambda: None) -> None:
        self.requested = False
        self._on_request = on_request

    def request(self, number: int = signal.SIGINT) -> None:
        """Request a stop by a signal. The second request raises KeyboardInterrupt, unless it is SIGHUP."""
        if not self.requested:
            self.requested = True
            self._on_request()
        elif signal.Signals(number).name != "SIGHUP":
            raise KeyboardInterrupt

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turn the signals into requests while the block runs."""
        with _handled_by(lambda number, _frame: self.request(number)):
            yield


@contextmanager
def stopped_before_training() -> Iterator[None]:
    """End the block at the first signal, because nothing is written yet. Raises Interrupted."""
    try:
        with _handled_by(signal.default_int_handler):
            yield
    except KeyboardInterrupt:
        raise Interrupted("stopped before training began; nothing was written") from None


@contextmanager
def _handled_by(receive: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread alone
        yield
        return
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    ignored = {number for number in numbers if signal.getsignal(number) == signal.SIG_IGN and number != signal.SIGINT}
    before = {number: signal.signal(number, receive) for number in numbers if number not in ignored}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_interruptions(worker: int) -> None:  # noqa: ARG001
    """For worker processes, which Ctrl-C and the terminal's end reach as well: the main process decides.

    SIGTERM ends them as usual.
    """
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
