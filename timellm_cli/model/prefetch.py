"""Batches that are made by a thread while the GPU works on the ones before."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from timellm_cli.data.batch import Batch

_AHEAD = 3


def prefetch(batches: Iterable[Batch]) -> Generator[Batch]:
    """The same batches in pinned memory, made by a thread up to three batches ahead. Its errors are raised here."""
    source = iter(batches)
    thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        ahead = deque(thread.submit(_next_pinned, source) for _ in range(_AHEAD))
        while (batch := ahead.popleft().result()) is not None:
            ahead.append(thread.submit(_next_pinned, source))
            yield batch
    finally:
        thread.shutdown(cancel_futures=True)


def _next_pinned(batches: Iterator[Batch]) -> Batch | None:
    batch = next(batches, None)
    if batch is None:
        return None
    prompt = batch.prompt
    assert prompt is not None
    return replace(
        batch,
        history_BT=batch.history_BT.pin_memory(),
        future_BH=batch.future_BH.pin_memory(),
        known_BH=None if batch.known_BH is None else batch.known_BH.pin_memory(),
        ahead=batch.ahead.pinned() if batch.ahead else None,
        prompt=replace(prompt, ids_BK=prompt.ids_BK.pin_memory(), mask_BK=prompt.mask_BK.pin_memory()),
    )
