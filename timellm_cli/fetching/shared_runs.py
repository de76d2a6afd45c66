"""A run on the Hugging Face hub: what is uploaded of it, and how it comes back. Light until the hub is called."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from timellm_cli.errors import ConfigError, ModelError
from timellm_cli.fetching.catalogue import is_hub_id

FILES = ("best.pt", "config.toml", "eval.json", "README.md")
"""What a shared run has; the table and the LLM are not part of it."""


def require_hub_id(name: str) -> None:
    """Raise ConfigError for what is no `owner/name`."""
    if not is_hub_id(name):
        raise ConfigError(f"'{name}' is no name on the hub", "write it as owner/name")


def upload(folder: Path, name: str, private: bool) -> str:
    """Upload the files of a folder as the model `owner/name`; returns its address. Raises ModelError."""

    def send(hub: Any) -> str:
        api = hub.HfApi()
        page = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=str(folder), commit_message="A run of timellm")
        return str(page)

    return _call(send, name, "the upload failed")


def download(name: str, folder: Path) -> None:
    """Download the files of a shared run into a folder. Raises ModelError where it has no best.pt."""
    _call(
        lambda hub: hub.snapshot_download(name, allow_patterns=list(FILES), local_dir=str(folder)),
        name,
        "the download failed",
    )
    if not (folder / "best.pt").is_file():
        raise ModelError(f"{name} on the hub is no run of timellm: it has no best.pt", "check the name")


def _call(what: Callable[[Any], Any], name: str, failed: str) -> Any:
    import huggingface_hub

    try:
        return what(huggingface_hub)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"{name}: {failed}: {lines[0]}", "check the name, the network and HF_ENDPOINT; `hf auth login` or HF_TOKEN"
        ) from None
