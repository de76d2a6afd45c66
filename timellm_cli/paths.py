"""Where downloaded things lie. Light.

The cache follows the platform's habit (platformdirs) and moves with the environment variable TIMELLM_CACHE.
"""

import os
from pathlib import Path

import platformdirs


def cache_directory() -> Path:
    """The root of everything `timellm fetch` keeps."""
    return Path(os.environ.get("TIMELLM_CACHE") or platformdirs.user_cache_dir("timellm", appauthor=False))


def data_directory() -> Path:
    """Dataset files, `NAME.csv`."""
    return cache_directory() / "data"


def llm_directory() -> Path:
    """LLMs that do not come from a hub, one folder each."""
    return cache_directory() / "llms"


def prepared_directory() -> Path:
    """What was prepared of LLMs for faster starts, one folder each; it may be deleted at any time."""
    return cache_directory() / "prepared"
