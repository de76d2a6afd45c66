"""LLMs from ModelScope, through its own library where it is installed. Light until a download begins."""

from collections.abc import Callable
from pathlib import Path

from timellm_cli.errors import ModelError
from timellm_cli.llm_files import has_weights

WANTED = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]
LEFT_OUT = ["*/*", "consolidated*"]


def download(name: str, folder: Path, on_note: Callable[[str], None]) -> None:
    """Download `owner/name` into an empty folder: configuration, tokenizer and safetensors, no pickles.

    Raises ModelError where the library is not installed, the download fails, or no usable LLM is there.
    """
    try:
        from modelscope.hub.snapshot_download import snapshot_download
    except ImportError:
        raise ModelError("ModelScope's library is not installed", "pip install modelscope") from None
    on_note(f"Downloading {name} from ModelScope")
    try:
        snapshot_download(name, local_dir=str(folder), allow_patterns=WANTED, ignore_patterns=LEFT_OUT)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"{name}: the download from ModelScope failed: {lines[0]}",
            f"check the name at https://modelscope.cn/models/{name} and the network, then repeat the command",
        ) from None
    if not (folder / "config.json").is_file() or not has_weights(folder):
        raise ModelError(
            f"{name} on ModelScope has no config.json with safetensors weights", "choose a repository that has them"
        )
