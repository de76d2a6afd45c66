"""The prompt's template: what may stand in it, and what comes out."""

import pytest

from timellm_cli.config import PromptConfig, WindowConfig
from timellm_cli.errors import ConfigError
from timellm_cli.model.prompt import PromptText, WindowStatistics

STATISTICS = WindowStatistics(min=-1.25, max=2.0, median=-0.0004, upward=True, lags=(0, 24, 72))


def text_of(**prompt: object) -> PromptText:
    return PromptText(PromptConfig(**prompt), WindowConfig(seq_len=96, pred_len=24), "Counts of people.")


def test_the_default_prompt_names_data_task_and_statistics() -> None:
    assert text_of().render(STATISTICS) == (
        "<|start_prompt|>Dataset description: Counts of people.Task description: forecast the next 24 steps given the "
        "previous 96 steps information; Input statistics: min value -1.250, max value 2.000, median value 0.000, the "
        "trend of input is upward, top 5 lags are : [0, 24, 72]<|<end_prompt>|>"
    )


def test_all_decimals_are_printed_when_asked_for() -> None:
    assert "median value -0.0004, " in text_of(decimals="all").render(STATISTICS)


def test_every_prompt_begins_with_the_constant_prefix() -> None:
    text = text_of()
    other = WindowStatistics(min=0.5, max=9.0, median=1.0, upward=False, lags=(0, 1, 2))
    assert text.prefix.endswith("Input statistics: min value")
    for statistics in (STATISTICS, other):
        assert text.render(statistics).startswith(text.prefix)


def test_a_template_of_ones_own_may_hold_braces_and_no_statistics() -> None:
    assert text_of(template="{{json}} {seq_len}->{pred_len} {trend}").render(STATISTICS) == "{json} 96->24 upward"
    assert text_of(template="Forecast.").prefix == "Forecast."


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{maximum}", "no field '{maximum}'"),
        ("{medain}", "did you mean 'median'?"),
        ("{min:.2f}", "no field '{min:.2f}'"),
        ("{description.__class__}", "no field '{description.__class__}'"),
        ("{}", "no field '{}'"),
        ("{min", "cannot be read"),
    ],
)
def test_a_wrong_field_is_refused_and_the_fields_are_listed(template: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        text_of(template=template)
    assert message in raised.value.message
    assert "{median}" in raised.value.hint
