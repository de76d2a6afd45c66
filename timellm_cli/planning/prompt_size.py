"""The prompt of a run and how many tokens it takes. Light."""

from dataclasses import dataclass

from timellm_cli.config import Config
from timellm_cli.data.probe import Probe
from timellm_cli.datasets import description_of
from timellm_cli.llm_files import NO_LLM
from timellm_cli.model.prompt import PromptText
from timellm_cli.planning.llm_shape import LLMShape
from timellm_cli.planning.preview import first_sample_statistics
from timellm_cli.planning.tokens import TokenCount, count_tokens, typical_statistics

_NONE = TokenCount(0, 0, exact=True, error=0.0)


@dataclass(frozen=True)
class Prompt:
    """`tokens` of our prompt, `published_tokens` of the same one with every digit, as the published code prints it.

    They and `text` are of the first training sample where that was asked for and the file is here (`is_real`), else of
    typical statistics.
    """

    tokens: TokenCount
    published_tokens: TokenCount
    text: str
    is_real: bool


def read_prompt(config: Config, shape: LLMShape | None, probe: Probe | None = None) -> Prompt:
    """The prompt of the first training sample of a probed file, or a typical one.

    Raises ConfigError for a prompt that cannot be, and DataError where the file cannot be read as far as that.
    """
    if config.llm.name == NO_LLM:
        return Prompt(_NONE, _NONE, "", is_real=False)
    description = description_of(config.data, config.prompt.description)
    ours = PromptText(config.prompt, config.window, description)
    published = PromptText(config.prompt.model_copy(update={"decimals": "all"}), config.window, description)
    sample = first_sample_statistics(probe, config) if probe else None
    statistics = sample or typical_statistics(config.window.seq_len, config.prompt.top_lags)
    counts = count_tokens(ours, statistics, shape), count_tokens(published, statistics, shape)
    return Prompt(*counts, ours.render(statistics), is_real=sample is not None)
