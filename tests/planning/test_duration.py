"""How long a step will take: what more work and what a slower card cost."""

from dataclasses import replace

import pytest

from tests.planning.cases import known_shape, step
from timellm_cli.planning.case import Case
from timellm_cli.planning.duration import Speed, epoch_time, scoring_seconds, scoring_work, step_seconds, step_work
from timellm_cli.planning.hardware import find_card

QWEN = known_shape("Qwen/Qwen2.5-3B")
H100, T4 = (find_card(name) for name in ("H100", "T4"))


def captured(**changes: object) -> Case:
    return step(QWEN, decoder=True, captured=True, prefix=89, **changes)


def test_products_are_two_operations_a_weight_and_token_forward_and_for_patches_backward() -> None:
    """Counted by hand for one layer of a decoder that stands alone: its last layer goes on with patches alone."""
    one, two = (step_work(captured(layers=layers)).products for layers in (1, 2))
    assert two - one == 2 * 8 * (64 + (146 + 64 - 89 + 6)) * QWEN.linear_weights


def test_recomputing_and_more_layers_take_longer_and_capturing_less() -> None:
    speed = Speed.of(H100)
    seconds = step_seconds(captured(), speed)
    assert step_seconds(captured(recompute=True), speed) > seconds
    assert step_seconds(captured(layers=36), speed) > 5 * seconds
    assert step_seconds(replace(captured(), captured=False), speed) > 3 * seconds


def test_a_pass_forward_is_less_work_than_a_step() -> None:
    forward, whole = scoring_work(captured()), step_work(captured())
    assert 0.3 * whole.products < forward.products < 0.8 * whole.products


def test_a_slower_card_takes_longer_in_proportion_where_the_card_is_what_counts() -> None:
    large = captured(batch=256)
    ratio = step_seconds(large, Speed.of(T4)) / step_seconds(large, Speed.of(H100))
    assert 10 < ratio < H100.matrix_rate / T4.matrix_rate


def test_an_epoch_is_its_steps_and_its_scoring() -> None:
    time = epoch_time(captured(), H100, steps=100, scored=6400)
    assert time is not None
    assert time.scoring == pytest.approx(scoring_seconds(captured(), Speed.of(H100), 6400))
    assert time.epoch == pytest.approx(100 * time.step + time.scoring)
    assert time.samples_per_second == pytest.approx(8 / time.step)


def test_in_full_precision_and_on_a_cpu_there_is_no_estimate() -> None:
    assert epoch_time(step(QWEN, precision="fp32"), H100, 1, 1) is None
    assert epoch_time(step(QWEN, on_gpu=False), H100, 1, 1) is None
