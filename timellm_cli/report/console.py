"""The two streams: results on stdout, progress and logs on stderr. Light."""

from rich.console import Console

out = Console()
err = Console(stderr=True)
