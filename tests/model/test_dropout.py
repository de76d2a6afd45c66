"""What is dropped depends on a sample's key alone, looks like chance, and has the gradient of what was kept."""

import pytest
import torch

from timellm_cli.model.dropout import ATTENTION, EMBEDDING, _dropped, attend, drop, make_keys


def keys(count: int, step: int = 1, seed: int = 7) -> torch.Tensor:
    return make_keys(seed, step, torch.arange(count) % 5, 10 * (torch.arange(count) // 5))


def test_keys_differ_by_seed_step_channel_and_row() -> None:
    every = [keys(2000), keys(2000, step=2), keys(2000, seed=8)]
    assert len(torch.cat(every).unique()) > 6000 - 10
    assert torch.equal(
        keys(2000)[500:600], make_keys(7, 1, torch.arange(500, 600) % 5, 10 * (torch.arange(500, 600) // 5))
    )


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropped_numbers_look_drawn_by_chance(rate: float) -> None:
    dropped = _dropped(keys(400).unsqueeze(1), torch.arange(2000, dtype=torch.int32), rate, ATTENTION).double()
    assert dropped.shape == (400, 4000)
    error = (rate * (1 - rate) / dropped.numel()) ** 0.5
    assert abs(float(dropped.mean()) - rate) < 5 * error
    for means, count in ((dropped.mean(0), 400), (dropped.mean(1), 4000)):  # of each place, of each sample
        assert float(means.std()) == pytest.approx((rate * (1 - rate) / count) ** 0.5, rel=0.15)
    centred = dropped - rate
    for other in (centred.roll(1, 0), centred.roll(1, 1), centred.roll(2, 1)):  # neighbouring samples and places
        assert abs(float((centred * other).mean())) < 5 * rate * (1 - rate) / dropped.numel() ** 0.5
    elsewhere = _dropped(keys(400).unsqueeze(1), torch.arange(2000, dtype=torch.int32), rate, EMBEDDING).double() - rate
    assert abs(float((centred * elsewhere).mean())) < 5 * rate * (1 - rate) / dropped.numel() ** 0.5


def test_a_part_of_a_batch_drops_what_the_whole_batch_drops() -> None:
    values, key_B = torch.randn(6, 5, 7), keys(6)
    whole = drop(values, key_B, 0.3, EMBEDDING)
    assert torch.equal(drop(values[2:4], key_B[2:4], 0.3, EMBEDDING), whole[2:4])
    assert set((whole / values).unique().mul(0.7).round(decimals=4).tolist()) == {0.0, 1.0}


def test_attention_keeps_its_mean_and_has_the_gradient_of_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 4, rows, 8, dtype=torch.float64, requires_grad=True) for rows in (6, 11, 11))
    key_B = keys(3)
    whole = attend(query, key, value, key_B, 0.4)
    monkeypatch.setattr("timellm_cli.model.dropout._AT_ONCE", 66)  # one head at a time
    assert torch.equal(attend(query, key, value, key_B, 0.4), whole)
    part = attend(query[:, :, 2:4], key, value, key_B[1:2], 0.4)
    torch.testing.assert_close(part, whole[:, :, 2:4], rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(lambda *tensors: attend(*tensors, key_B, 0.4), (query, key, value))
    with torch.no_grad():
        drawn = [attend(query, key, value, keys(3, step), 0.4) for step in range(400)]
        undropped = attend(query, key, value, None, 0.0)
        error = torch.stack(drawn).std(0) / 20
        assert float(((torch.stack(drawn).mean(0) - undropped) / error).abs().mean()) < 1.2
