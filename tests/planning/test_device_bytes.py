"""What libraries take of a card beside our tensors."""

from dataclasses import replace

import pytest

from tests.planning.cases import known_shape, step
from timellm_cli.planning.memory_bill import our_bill
from timellm_cli.planning.weight_bytes import CPU_PROCESS, allocator, context, matrix_products

QWEN = known_shape("Qwen/Qwen2.5-3B")
MIB = 2**20


def test_the_context_grows_with_the_multiprocessors_of_the_card() -> None:
    small, large = (context(step(QWEN, multiprocessors=count)).bytes for count in (40, 132))
    assert large == 841 * MIB
    assert small < 0.6 * large
    assert context(step(QWEN, on_gpu=False)).bytes == CPU_PROCESS


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 2),
        ({"captured": True, "prefix": 89}, 3),
        ({"captured": True, "prefix": 0}, 2),
        ({"on_gpu": False}, 0),
    ],
)
def test_every_stream_and_thread_that_multiplies_has_a_workspace(changes: dict[str, object], count: int) -> None:
    case = step(QWEN, decoder=True, capability=(9, 0), **changes)
    assert matrix_products(case).bytes == count * 32 * MIB
    assert matrix_products(replace(case, capability=(8, 6))).bytes == count * 8_519_680
    if case.on_gpu:
        assert matrix_products(case, trains=False).bytes == (count - 1) * 32 * MIB


def test_a_recorded_step_keeps_its_fragmentation_and_memory_in_one_piece_has_less() -> None:
    case = step(QWEN, decoder=True, captured=True, batch=64)
    parts = list(our_bill(case).parts)
    eager = replace(case, captured=False)
    in_one_piece = allocator(case, parts, in_one_piece=True).bytes
    assert allocator(eager, parts, in_one_piece=True).bytes < in_one_piece
    assert in_one_piece < allocator(case, parts, in_one_piece=False).bytes
    assert allocator(step(QWEN, on_gpu=False), parts).bytes == 0
