import math

import pytest

from timellm_cli.units import format_change, format_figure, split_names


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


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.012345, "0.01235"),
        (12.3456, "12.35"),
        (999.96, "1000"),
        (11_690.4, "11,690"),
        (-2804.0, "-2,804"),
        (3e9, "3e+09"),
    ],
)
def test_a_figure_has_about_four_digits_and_no_exponent_that_people_do_not_need(value: float, text: str) -> None:
    assert format_figure(value) == text


def test_names_are_split_at_commas_that_no_quotation_marks_hold() -> None:
    assert split_names(' a, b c ,"d,e", ') == ["a", "b c", "d,e"]
    assert split_names("") == []
    assert split_names('a\nb,"c') == ["a\nb", '"c']
