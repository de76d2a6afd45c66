import math

import pytest

from timellm_cli.units import format_change


@pytest.mark.parametrize(
    ("value", "reference", "text"),
    [
        (0.3, 0.4, "-25.0%"),
        (0.4, 0.4, "0.0%"),
        (0.39999, 0.4, "0.0%"),
        (0.40001, 0.4, "0.0%"),
        (1.0, 0.4, "+150.0%"),
        (3.99, 0.4, "+897.5%"),
        (4.0, 0.4, "10 x"),
        (1500.0, 1.0, "1,500 x"),
        (1.0, 0.0, "-"),
        (1.0, math.nan, "-"),
        (math.nan, 1.0, "+nan%"),
    ],
)
def test_a_change_is_told_in_per_cent_and_a_large_one_as_a_multiple(value: float, reference: float, text: str) -> None:
    assert format_change(value, reference) == text
