"""How long a process waits for another one before it gives up. Light."""

import os
from collections.abc import Mapping

from timellm_cli.errors import ConfigError

NAME = "TIMELLM_PATIENCE"
_USUAL = 600
"""Longer than any scoring differs between processes."""


def patience(environment: Mapping[str, str] = os.environ) -> int:
    """Seconds to wait for another process. Raises ConfigError where the variable is no whole number above 0."""
    text = environment.get(NAME, str(_USUAL))
    if not text.isdecimal() or int(text) == 0:
        raise ConfigError(
            f"{NAME} is {text!r}: it is for how many seconds a process waits for another one",
            f"a whole number such as {_USUAL}, which is also used where the variable is not set",
        )
    return int(text)
