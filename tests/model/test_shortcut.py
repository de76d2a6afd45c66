"""The periodic part of the linear shortcut, beside a plain loop."""

import pytest
import torch
from torch import Tensor

from timellm_cli.config import Config
from timellm_cli.model.time_llm import PeriodicMap, Shortcut


@pytest.mark.parametrize(("seq_len", "pred_len", "period"), [(50, 12, 7), (48, 24, 8), (9, 4, 9), (5, 3, 1)])
def test_a_periodic_shortcut_maps_every_phase_with_the_same_weights(seq_len: int, pred_len: int, period: int) -> None:
    torch.manual_seed(0)
    plain, both = Shortcut(seq_len, pred_len), Shortcut(seq_len, pred_len, period)
    assert both.periodic is not None
    scaled_BT = torch.randn(3, seq_len)
    with torch.no_grad():
        for weight in both.parameters():
            weight.normal_()
        plain.load_state_dict({name: both.state_dict()[name] for name in plain.state_dict()})
        added_BH = plain_loop(both.periodic, scaled_BT - scaled_BT[:, -1:])
        torch.testing.assert_close(both(scaled_BT), plain(scaled_BT) + added_BH, rtol=1e-4, atol=1e-4)


def plain_loop(periodic: PeriodicMap, change_BT: Tensor) -> Tensor:
    """SparseTSF by its definition."""
    smoothing, reach = periodic.smoothing.flatten(), len(periodic.smoothing.flatten()) // 2
    rows = change_BT.shape[1]
    smooth_BT = change_BT.clone()
    for row in range(rows):
        for other in range(max(row - reach, 0), min(row + reach + 1, rows)):
            smooth_BT[:, row] += smoothing[other - row + reach] * change_BT[:, other]
    added_BH = torch.zeros(len(change_BT), periodic.pred_len)
    first = rows - periodic.periods * periodic.period
    for step in range(periodic.pred_len):
        for n in range(periodic.periods):
            row = first + n * periodic.period + step % periodic.period
            added_BH[:, step] += periodic.weight_NM[n, step // periodic.period] * smooth_BT[:, row]
    return added_BH


def test_a_period_longer_than_the_window_is_refused_with_both_numbers() -> None:
    model, window = {"shortcut": True, "shortcut_period": 49}, {"seq_len": 48}
    with pytest.raises(ValueError, match="shortcut_period 49 is longer than the window of 48 rows"):
        Config.model_validate({"model": model, "window": window})
    with pytest.raises(ValueError, match=r"shortcut_period 49 is of a shortcut, but model\.shortcut is off"):
        Config.model_validate({"model": model | {"shortcut": False}, "window": window})
