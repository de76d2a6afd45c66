"""Common cards, planned for without one being here."""

import pytest

from timellm_cli.errors import ConfigError
from timellm_cli.planning.hardware import find_card, recognise
from timellm_cli.units import GIB


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA GeForce RTX 4060 Laptop GPU", "RTX 4060 Laptop"),
        ("NVIDIA GeForce RTX 4060", "RTX 4060"),
        ("Tesla T4", "T4"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("rtx-3060", "RTX 3060"),
    ],
)
def test_a_card_is_known_by_what_the_driver_and_people_call_it(driver: str, name: str) -> None:
    card = recognise(driver)
    assert card is not None
    assert card.name == name


def test_the_common_sizes_are_there_and_give_programs_less_than_is_printed_on_the_box() -> None:
    for name, printed in {
        "RTX 2060": 6, "RTX 4060": 8, "RTX 3060": 12, "T4": 16, "RTX 4080": 16, "RTX 4090": 24,
        "A100 40GB": 40, "H100": 80,
    }.items():  # fmt: skip
        card = find_card(name)
        assert 0.9 * printed * GIB < card.total_bytes < printed * GIB
        assert card.gpu.free_bytes == card.total_bytes - card.desktop_bytes


def test_a_screen_takes_its_share_of_a_desktop_card_alone() -> None:
    assert find_card("RTX 4060").desktop_bytes > 0
    assert find_card("T4").desktop_bytes == 0


def test_an_unknown_card_is_told_the_nearest_and_what_there_is() -> None:
    with pytest.raises(ConfigError) as raised:
        find_card("RTX 4061")
    assert "did you mean 'RTX 40" in raised.value.message
    assert "T4" in raised.value.hint and "--vram" in raised.value.hint
