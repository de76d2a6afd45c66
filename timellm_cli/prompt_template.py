"""The literal text of the prompt in front of every sample, and the fields that a template may have. Light.

`model/prompt.py` fills the fields in.
"""

from string import Formatter

from timellm_cli.errors import ConfigError, did_you_mean

PROMPT_TEMPLATE = (
    "<|start_prompt|>Dataset description: {description}"
    "Task description: forecast the next {pred_len} steps given the previous {seq_len} steps information; "
    "Input statistics: min value {min}, max value {max}, median value {median}, "
    "the trend of input is {trend}, top {top_lags} lags are : {lags}<|<end_prompt>|>"
)

PROMPT_FIELDS = ("description", "series", "pred_len", "seq_len", "min", "max", "median", "trend", "top_lags", "lags")


def parse_template(template: str) -> list[tuple[str, bool]]:
    """The template as parts: (text, False) or (name of a field, True). Raises ConfigError for any other field."""
    listing = "fields are " + ", ".join(f"{{{name}}}" for name in PROMPT_FIELDS) + "; write a brace of the text twice"
    parts: list[tuple[str, bool]] = []
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"prompt.template cannot be read: {error}", listing) from None
    for literal, name, spec, conversion in pieces:
        parts.append((literal, False))
        if name is None:
            continue
        if name not in PROMPT_FIELDS or spec or conversion:
            written = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise ConfigError(
                f"prompt.template has no field '{{{written}}}'{did_you_mean(name, PROMPT_FIELDS)}", listing
            )
        parts.append((name, True))
    return parts
