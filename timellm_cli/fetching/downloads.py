"""Downloads over HTTP: an LLM from the Hugging Face hub, and a dataset's CSV from its address or a mirror. Light.

Of a hub repository, configuration, tokenizer and safetensors weights go into the hub's own cache: no pickles, no copies
in other formats. An interrupted download continues. A CSV must be whole and have the dataset's columns and rows.
"""

import csv
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from timellm_cli import __version__
from timellm_cli.datasets import Dataset, fetch_command
from timellm_cli.errors import ConfigError, DataError, ModelError
from timellm_cli.llm_files import has_weights, hub_cache_directory

_TEXTS = ["*.json", "*.txt", "*.model", "*.jinja"]
_WEIGHTS = ["*.safetensors"]
# Folders hold other formats; `consolidated` files hold the same weights once more under other names.
_LEFT_OUT = ["*/*", "consolidated*"]

TIMEOUT_SECONDS = 30.0
PAUSES_BEFORE_RETRY = (1.0, 3.0)
_BUSY = (408, 429)


def fetch_from_hub(name: str, show_bars: bool) -> Path:
    """Download what is missing of `owner/name` and return its folder. The endpoint is HF_ENDPOINT's.

    Raises ModelError when the repository does not exist, is gated, cannot be reached, or holds no usable LLM.
    """
    from huggingface_hub.utils import disable_progress_bars

    if not show_bars:
        disable_progress_bars()
    # Texts first: after an interruption, the index of the shards shows whether shards are missing.
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
        return Path(
            snapshot_download(name, allow_patterns=patterns, ignore_patterns=_LEFT_OUT, cache_dir=hub_cache_directory())
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
        # The errors of the hub's transport library differ by version. All mean that the download has failed.
        raise ModelError(
            f"{name}: the download failed: {type(error).__name__}: {error}",
            f"what has arrived is kept: `{fetch_command(name)}` continues it",
        ) from None


class _Incomplete(OSError):
    """The connection ended before the announced length."""


def download_csv(
    dataset: Dataset,
    target: Path,
    mirror: str | None,
    on_note: Callable[[str], None],
    on_received: Callable[[int], None],
) -> None:
    """Download a dataset's CSV to `target` and check it. `on_received` gets the bytes received so far.

    Bytes with another checksum are kept with a warning: some mirrors serve another edition. Raises DataError when the
    address does not answer or the file is not this dataset's table, ConfigError when `mirror` is no address.
    """
    address = address_of(dataset, mirror)
    for pause in (*PAUSES_BEFORE_RETRY, None):
        try:
            _receive(address, target, on_received)
            break
        except (OSError, http.client.HTTPException) as error:
            if pause is None or not _may_pass(error):
                raise DataError(
                    f"{dataset.name}: cannot download {address}: {_reason(error)}",
                    "check the network and the address; --mirror URL (or TIMELLM_MIRROR) takes URL/NAME.csv instead",
                ) from None
            on_note(f"{dataset.name}: {_reason(error)}; trying again in {pause:g} s")
            time.sleep(pause)
    if fault := _find_fault(target, dataset):
        raise DataError(
            f"{dataset.name}: what {address} serves is not this dataset: {fault}",
            "nothing was kept; name another mirror: --mirror URL (or TIMELLM_MIRROR) takes URL/NAME.csv",
        )
    with target.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != dataset.sha256:
        on_note(
            f"warning: {dataset.name} from {address} has SHA-256 {sha256}, not {dataset.sha256}; "
            "header and row count are right, so it is kept, but scores may differ from published ones"
        )


def address_of(dataset: Dataset, mirror: str | None) -> str:
    """Where the CSV is: the dataset's own address, or NAME.csv below the mirror's. Raises ConfigError."""
    if mirror is None:
        assert dataset.url is not None
        return dataset.url
    if urlsplit(mirror).scheme not in ("http", "https", "file"):
        raise ConfigError(f"mirror '{mirror}' is no address", "write it with its scheme, such as https://host/folder")
    return f"{mirror.rstrip('/')}/{dataset.name}.csv"


def _receive(address: str, target: Path, on_received: Callable[[int], None]) -> None:
    request = urllib.request.Request(address, headers={"User-Agent": f"timellm/{__version__}"})
    received = 0
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response, target.open("wb") as file:
        announced = response.headers.get("Content-Length")
        while block := response.read(1 << 16):
            received += file.write(block)
            on_received(received)
    if announced is not None and received != int(announced):
        raise _Incomplete(f"the connection ended after {received:,} of {int(announced):,} bytes")


def _may_pass(error: Exception) -> bool:
    """Whether the same request may succeed later. A client error of the request itself does not pass."""
    return not isinstance(error, urllib.error.HTTPError) or error.code >= 500 or error.code in _BUSY


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    return str(error.reason if isinstance(error, urllib.error.URLError) else error) or type(error).__name__


def _find_fault(path: Path, dataset: Dataset) -> str | None:
    """Why a file is not the dataset's table, or None."""
    expected = ["date", *dataset.columns]
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            if header != expected:
                return f"it begins {','.join(header)[:60]!r}, not {','.join(expected)!r}"
            odd = next((line for line, row in enumerate(rows, start=2) if len(row) != len(expected)), None)
            count = rows.line_num - 1
    except (UnicodeDecodeError, csv.Error) as error:
        return f"it is no CSV text ({error})"
    if odd is not None:
        return f"line {odd} does not have {len(expected)} values"
    return None if count == dataset.rows else f"it has {count:,} rows, not {dataset.rows:,}"
