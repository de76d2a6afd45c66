"""timellm: train and run Time-LLM, forecasting with a frozen LLM, on the hardware you have.

In Python: `Forecaster`, `train`, `evaluate` and `inspect`. Importing this package imports nothing else; a name is
loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from timellm_cli.errors import ConfigError, DataError, Interrupted, ModelError, TimellmError
    from timellm_cli.forecasting.forecaster import Forecaster
    from timellm_cli.python import Trained, evaluate, inspect, train

__version__ = "1.0.0"

_HOMES = {
    "Forecaster": "forecasting.forecaster",
    **dict.fromkeys(("Trained", "evaluate", "inspect", "train"), "python"),
    **dict.fromkeys(("ConfigError", "DataError", "Interrupted", "ModelError", "TimellmError"), "errors"),
}

__all__ = [
    "ConfigError",
    "DataError",
    "Forecaster",
    "Interrupted",
    "ModelError",
    "TimellmError",
    "Trained",
    "__version__",
    "evaluate",
    "inspect",
    "train",
]


def __getattr__(name: str) -> Any:
    """Load what `__all__` names from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'timellm_cli' has no attribute '{name}'")
    return getattr(import_module(f"timellm_cli.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
