"""The map from what is known of the days ahead to a part of the forecast."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from timellm_cli.data.day_lines import Line
from timellm_cli.model.day_map import DayMap, DayMapSizes, basis_of
from timellm_cli.model.line_reader import facts_of, vectors_of_facts

SLOTS, T, H, B = 4, 28, 6, 5


def sizes(**changes: int) -> DayMapSizes:
    known = {"slots": SLOTS, "vector": 3, "mixes": 3, "columns": 0, "rank": 2, "seq_len": T}
    return DayMapSizes(**{**known, **changes})


def filled(day_map: DayMap) -> DayMap:
    """With a core that is no longer zero."""
    for core in filter(None, (day_map.text, day_map.columns)):
        torch.nn.init.normal_(core.core_AJD)
    if day_map.sizes.mixes:
        day_map.fit_vectors(torch.zeros(3), torch.eye(3))
        day_map.set_lines(torch.eye(3))
    return day_map


def inputs(start: int = 0, columns: int = 0) -> tuple[Tensor, ...]:
    """Samples of one long series whose line changes with the day; the first begins at row `start`."""
    rows_BT = start + torch.arange(B)[:, None] + torch.arange(T)
    steps_BH = start + torch.arange(B)[:, None] + T + torch.arange(H)
    history_BT = torch.sin(rows_BT * 0.7)
    return history_BT, steps_BH // SLOTS % 3, steps_BH % SLOTS, rows_BT % (7 * SLOTS), torch.ones(B, H, columns)


def test_a_fresh_map_adds_nothing_and_its_core_has_a_gradient() -> None:
    torch.manual_seed(1)
    day_map = DayMap(sizes())
    day_map.fit_vectors(torch.zeros(3), torch.eye(3))
    day_map.set_lines(torch.eye(3))
    added_BH = day_map(*inputs())
    assert added_BH.shape == (B, H)
    assert not added_BH.any()
    (added_BH - 1).square().sum().backward()
    assert day_map.text is not None
    assert day_map.text.core_AJD.grad is not None
    assert day_map.text.core_AJD.grad.abs().sum() > 0


def test_a_step_has_the_same_value_whatever_hour_its_window_starts_at() -> None:
    """The history is a whole week that repeats, so that windows an hour apart read the same aligned week."""
    torch.manual_seed(1)
    day_map = filled(DayMap(sizes()))
    rows = torch.arange(3 * T)
    series = torch.randn(T).repeat(3)
    together = []
    for start in range(6):
        steps = torch.arange(start + T, start + T + H)
        known = (steps // SLOTS % 3)[None], (steps % SLOTS)[None], (rows[start : start + T] % (7 * SLOTS))[None]
        added = day_map(series[start : start + T][None], *known, torch.ones(1, H, 0))
        together.append(dict(zip(steps.tolist(), added[0].tolist(), strict=True)))
    for earlier, later in pairwise(together):
        for step in earlier.keys() & later.keys():
            assert earlier[step] == pytest.approx(later[step], abs=1e-5)


def test_text_and_history_both_matter() -> None:
    torch.manual_seed(1)
    day_map = filled(DayMap(sizes()))
    history_BT, line_BH, *rest = inputs()
    added_BH = day_map(history_BT, line_BH, *rest)
    assert not torch.allclose(added_BH, day_map(history_BT, (line_BH + 1) % 3, *rest))
    assert not torch.allclose(added_BH, day_map(history_BT + torch.randn(B, T), line_BH, *rest))


def test_columns_take_the_place_of_lines_step_by_step() -> None:
    torch.manual_seed(1)
    day_map = filled(DayMap(sizes(vector=0, mixes=0, columns=2)))
    day_map.fit_columns(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))
    assert day_map.column_std_F.tolist() == [1.0, 1.0], "a constant column counts as it is"
    *known, columns_BHF = inputs(columns=2)
    changed_BHF = columns_BHF.clone()
    changed_BHF[0, 2] += 1
    difference_BH = day_map(*known, changed_BHF) - day_map(*known, columns_BHF)
    assert difference_BH.nonzero().tolist() == [[0, 2]]


def test_a_short_history_is_aligned_to_the_day() -> None:
    assert (sizes().days, sizes(seq_len=7 * SLOTS - 1).days) == (7, 1)
    short = DayMap(sizes(seq_len=SLOTS))
    short.set_lines(torch.eye(3))
    history_BT, line_BH, slot_BH, week_BT, columns = inputs()
    assert short(history_BT[:, -SLOTS:], line_BH, slot_BH, week_BT[:, -SLOTS:], columns).shape == (B, H)


def test_directions_are_those_in_which_training_lines_differ() -> None:
    torch.manual_seed(1)
    vectors_LE = torch.randn(40, 6) @ torch.diag(torch.tensor([5.0, 3.0, 1.0, 0.5, 0.0, 0.0])) + 7
    counts_L = torch.ones(40)
    mean_E, basis_EK = basis_of(vectors_LE, counts_L)
    assert basis_EK.shape == (6, 4), "two numbers never change"
    lines_LK = (vectors_LE - mean_E) @ basis_EK
    assert lines_LK.mean(dim=0).abs().max() < 1e-5
    assert lines_LK.square().mean() == pytest.approx(1, abs=1e-4)
    twice = basis_of(torch.cat([vectors_LE, vectors_LE]), torch.cat([counts_L, torch.zeros(40)]))
    torch.testing.assert_close(twice, (mean_E, basis_EK))


def test_facts_are_columns_of_0_and_1_and_new_ones_are_left_out() -> None:
    lines = [Line("a", frozenset({"Monday", "fair"}), True), Line("b", frozenset({"Friday"}), False)]
    facts = facts_of(lines, [1, 0])
    assert facts == ("Monday", "fair")
    assert vectors_of_facts(lines, facts).tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize("change", [lambda key: key, lambda key: key + SLOTS], ids=["same week", "next day"])
def test_shapes_do_not_depend_on_what_the_days_are(change: Callable[[Tensor], Tensor]) -> None:
    day_map = filled(DayMap(sizes()))
    history_BT, line_BH, slot_BH, week_BT, columns = inputs()
    assert day_map(history_BT, line_BH, slot_BH, change(week_BT) % (7 * SLOTS), columns).shape == (B, H)
