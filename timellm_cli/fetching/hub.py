"""An LLM of the Hugging Face hub: configuration, tokenizer and safetensors weights, into the hub's own cache.

Nothing else of a repository is taken: no pickles, no copies in other formats. Interrupted downloads continue.
"""

from pathlib import Path

from timellm_cli.console import err, say
from timellm_cli.errors import ModelError
from timellm_cli.fetching.catalogue import fetch_command
from timellm_cli.llm_files import has_weights, hub_cache_directory

_TEXTS = ["*.json", "*.txt", "*.model", "*.jinja"]
_WEIGHTS = ["*.safetensors"]
# Folders hold other formats; `consolidated` files hold the same weights once more under other names.
_LEFT_OUT = ["*/*", "consolidated*"]


def fetch_from_hub(name: str) -> Path:
    """Download what is missing of `owner/name` and return its folder. The endpoint is HF_ENDPOINT's.

    Raises ModelError when the repository does not exist, is gated, cannot be reached, or is no such LLM.
    """
    from huggingface_hub.utils import disable_progress_bars

    if not err.is_terminal:
        disable_progress_bars()
    say(f"Downloading {name} from the Hugging Face hub")
    # Texts first: the index of the shards then tells whether a later interruption left shards missing.
    folder = _snapshot(name, _TEXTS)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{name} on the hub has no config.json", "choose a repository of a transformers text model")
    folder = _snapshot(name, [*_TEXTS, *_WEIGHTS])
    if not has_weights(folder):
        raise ModelError(
            f"{name} on the hub has no safetensors weights", "choose a repository or a conversion that has them"
        )
    return folder


def _snapshot(name: str, patterns: list[str]) -> Path:
    from huggingface_hub import errors, snapshot_download

    page = f"https://huggingface.co/{name}"
    try:
        folder = snapshot_download(
            name, allow_patterns=patterns, ignore_patterns=_LEFT_OUT, cache_dir=hub_cache_directory()
        )
    except errors.GatedRepoError:
        raise ModelError(
            f"{name} on the hub is gated: its owner must let you in",
            f"accept the terms at {page}, then `hf auth login` or set HF_TOKEN, then `{fetch_command(name)}`",
        ) from None
    except errors.RepositoryNotFoundError:
        raise ModelError(
            f"{name} is not on the hub, or it is private",
            f"check the spelling at {page}; for a private one `hf auth login` or set HF_TOKEN",
        ) from None
    except errors.LocalEntryNotFoundError as error:
        raise ModelError(
            f"{name}: the hub cannot be reached: {error.__cause__ or error}",
            f"check the network, the proxy and HF_ENDPOINT, then `{fetch_command(name)}`",
        ) from None
    except Exception as error:
        # The classes of the hub's transport library differ by version; whatever it was, the download has failed.
        raise ModelError(
            f"{name}: the download failed: {type(error).__name__}: {error}",
            f"what has arrived is kept: `{fetch_command(name)}` continues it",
        ) from None
    return Path(folder)
