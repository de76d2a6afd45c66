"""Learning rates against torch's own schedules, and the choice of the optimizer."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from timellm_cli.config import TrainConfig
from timellm_cli.errors import ModelError
from timellm_cli.training.optimizer import LOSSES, Schedule, make_optimizer, set_rates

CPU = torch.device("cpu")


def torch_rates(make: object, updates: int, peak: float) -> list[tuple[float, float]]:
    """Learning rate and beta1 of every update under one of torch's schedules."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = make(optimizer)
    rates = []
    for _ in range(updates):
        rates.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"][0]))
        optimizer.step()
        if len(rates) < updates:
            schedule.step()
    return rates


@pytest.mark.parametrize("updates", [11, 100, 333])
def test_onecycle_is_torchs_with_a_fifth_of_warm_up(updates: int) -> None:
    expected = torch_rates(
        lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=updates, pct_start=0.2),
        updates,
        0.01,
    )
    schedule = Schedule("onecycle", 0.01, updates, 10)
    for update, (rate, beta1) in enumerate(expected):
        assert schedule.learning_rate(update) == pytest.approx(rate, rel=1e-9)
        assert schedule.beta1(update) == pytest.approx(beta1, rel=1e-9)


def test_cosine_is_torchs_down_to_zero() -> None:
    expected = torch_rates(lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=50), 50, 0.01)
    schedule = Schedule("cosine", 0.01, 50, 10)
    assert [schedule.learning_rate(update) for update in range(50)] == pytest.approx([rate for rate, _ in expected])


def test_type1_halves_after_every_epoch() -> None:
    schedule = Schedule("type1", 0.8, 12, updates_per_epoch=4)
    assert [schedule.learning_rate(update) for update in range(12)] == [0.8] * 4 + [0.4] * 4 + [0.2] * 4
    assert schedule.beta1(5) == 0.9


def test_constant_never_moves() -> None:
    schedule = Schedule("constant", 0.3, 5, 5)
    assert {schedule.learning_rate(update) for update in range(5)} == {0.3}


@given(
    kind=st.sampled_from(["onecycle", "cosine", "type1", "constant"]),
    total=st.integers(1, 60),
    epochs=st.integers(1, 5),
)
def test_every_update_of_a_run_of_any_length_has_a_usable_rate(kind: str, total: int, epochs: int) -> None:
    schedule = Schedule(kind, 0.01, total, max(1, total // epochs))
    rates = [schedule.learning_rate(update) for update in range(total)]
    assert all(0 < rate <= 0.01 * (1 + 1e-12) for rate in rates)
    assert all(0.85 <= round(schedule.beta1(update), 12) <= 0.95 for update in range(total))
    if total > 5:
        assert max(rates) > 0.005, "no schedule may miss its peak by far"


def test_set_rates_changes_the_next_update_only_in_what_it_names() -> None:
    optimizer = make_optimizer(TrainConfig(weight_decay=0.1), [torch.nn.Parameter(torch.zeros(2))], CPU)
    set_rates(optimizer, 0.5, 0.7)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.5, (0.7, 0.999), 0.1)


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_the_configured_optimizer_is_made(name: str, kind: type) -> None:
    assert type(make_optimizer(TrainConfig(optimizer=name), [torch.nn.Parameter(torch.zeros(2))], CPU)) is kind


def test_an_8_bit_optimizer_needs_a_gpu() -> None:
    with pytest.raises(ModelError, match="adamw8bit needs a GPU") as caught:
        make_optimizer(TrainConfig(optimizer="adamw8bit"), [torch.nn.Parameter(torch.zeros(2))], CPU)
    assert "--optimizer adam" in caught.value.hint


def test_the_losses_are_what_their_names_say() -> None:
    forecast, future = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.5, 3.0]])
    assert LOSSES["mse"](forecast, future).item() == pytest.approx((0.25 + 9) / 2)
    assert LOSSES["mae"](forecast, future).item() == pytest.approx((0.5 + 3) / 2)
    assert LOSSES["huber"](forecast, future).item() == pytest.approx((0.125 + 2.5) / 2)
    assert math.isfinite(LOSSES["huber"](forecast, future * 1e12).item())
