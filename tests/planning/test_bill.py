"""The bill as a whole: its parts add up, it grows with the batch, it is near what prototypes measured."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planning.cases import known_shape, step
from timellm_cli.planning.memory_bill import largest_batch, our_bill, plain_bill
from timellm_cli.units import GIB

QWEN = known_shape("Qwen/Qwen2.5-3B")


def test_the_total_is_the_sum_of_the_parts_and_no_part_is_empty() -> None:
    bill = our_bill(step(QWEN))
    assert bill.total == sum(part.bytes for part in bill.parts)
    assert all(part.bytes > 0 and part.how for part in bill.parts)
    assert bill["linear_weights"] == 6 * 77_070_336 // 2
    assert bill["embedding"] == 151_936 * 2048 * 2
    assert bill["no such part"] == 0


def test_an_average_of_the_weights_takes_as_much_as_they_do() -> None:
    plain, averaged = our_bill(step(QWEN)), our_bill(step(QWEN, average=True))
    assert averaged.total - plain.total == averaged["average"] == plain["trainable_weights"]


def test_a_part_that_does_not_apply_is_left_out() -> None:
    keys = {part.key for part in our_bill(step(QWEN, quantization="none")).parts}
    assert "quantization_constants" not in keys
    assert {part.key for part in our_bill(step(None)).parts} == {
        "trainable_weights", "gradients", "optimizer_states", "reprogramming_activations", "workspace",
        "matrix_products", "allocator", "cuda_context",
    }  # fmt: skip


@pytest.mark.parametrize(("layers", "batch", "measured"), [(36, 8, 4.51e9)])
def test_the_bill_is_near_the_peak_a_prototype_allocated(layers: int, batch: int, measured: float) -> None:
    """Qwen2.5-3B, NF4 with double quantization, bf16, prompt without gradients, on an H200 (see the design notes)."""
    bill = our_bill(step(QWEN, layers=layers, batch=batch))
    assert bill.total - bill["cuda_context"] == pytest.approx(measured, rel=0.05)


def test_the_published_implementation_never_needs_less_than_its_mapping_and_all_activations() -> None:
    case = step(QWEN, layers=36)
    plain, ours = plain_bill(case, prompt=189), our_bill(case)
    assert plain is not None
    mapping = 1000 * 151_936
    assert plain["trainable_weights"] == pytest.approx(4 * mapping, rel=0.02)
    assert plain["mapping_copy"] == 2 * mapping
    assert plain["linear_weights"] == ours["linear_weights"]
    assert plain["token_activations"] > 3 * ours["patch_activations"]
    # A 4-bit fork of it allocated 17.39 GB; its prompt was longer than this one.
    assert 2.5 * ours.total < plain.total < 17.39e9


def test_the_published_implementation_has_no_model_without_an_llm() -> None:
    assert plain_bill(step(None), prompt=0) is None


@given(batch=st.integers(1, 300), layers=st.integers(1, 36))
def test_the_bill_grows_with_the_batch_and_with_the_layers(batch: int, layers: int) -> None:
    case = step(QWEN, batch=batch, layers=layers)
    assert our_bill(case).total < our_bill(replace(case, batch=batch + 1)).total
    assert our_bill(case).total < our_bill(replace(case, layers=layers + 1)).total


@given(budget=st.integers(GIB, 24 * GIB), limit=st.integers(1, 5000))
def test_the_largest_batch_fits_and_the_next_one_does_not(budget: int, limit: int) -> None:
    case = step(QWEN)
    best = largest_batch(case, budget, limit)
    assert 0 <= best <= limit
    assert best == 0 or our_bill(replace(case, batch=best)).total <= budget
    assert best == limit or our_bill(replace(case, batch=best + 1)).total > budget


def test_each_saving_makes_the_bill_smaller() -> None:
    plain = our_bill(step(QWEN, quantization="none", optimizer="adam")).total
    assert our_bill(step(QWEN, quantization="int8")).total < plain
    assert our_bill(step(QWEN, quantization="nf4", double_quant=False)).total < plain
    assert our_bill(step(QWEN)).total < our_bill(step(QWEN, double_quant=False)).total
    assert our_bill(step(QWEN, optimizer="adam8bit")).total < our_bill(step(QWEN)).total
