"""Batches made ready while the GPU works on the one before."""

from collections.abc import Iterable, Iterator
from queue import Full, Queue
from threading import Event, Thread

from timellm_cli.model.batch import Batch

_AHEAD = 2
_PATIENCE = 0.1
"""Seconds after which the thread looks whether it is still wanted."""


def prefetch(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches in memory that a GPU reads by itself, made by a thread up to two steps ahead.

    What making a batch raises is raised here.
    """
    ready: Queue[Batch | BaseException | None] = Queue(_AHEAD)
    unwanted = Event()

    def put(item: Batch | BaseException | None) -> bool:
        while not unwanted.is_set():
            try:
                ready.put(item, timeout=_PATIENCE)
                return True
            except Full:
                continue
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not put(batch.pin_memory()):
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001: it belongs to whoever waits for the batch
            put(error)

    thread = Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        unwanted.set()
        thread.join()
