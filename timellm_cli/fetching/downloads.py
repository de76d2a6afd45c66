"""Downloads over HTTP: an LLM from the Hugging Face hub, and a dataset's CSV from its address or a mirror. Light.

Of a hub repository, configuration, tokenizer and safetensors weights go into the hub's own cache: no pickles, no copies
in other formats. An interrupted download continues. A CSV must be whole and have the dataset's columns and rows.
"""

import csv
import hashlib
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from timellm_cli import __version__
from timellm_cli.datasets import Dataset, fetch_command
from timellm_cli.errors import ConfigError, DataError, ModelError
from timellm_cli.fetching.catalogue import CATALOGUE
from timellm_cli.llm_files import has_weights, hub_cache_directory, is_commit

_TEXTS = ["*.json", "*.txt", "*.model", "*.jinja"]
_WEIGHTS = ["*.safetensors"]
# Folders hold other formats; `consolidated` files hold the same weights once more under other names.
_LEFT_OUT = ["*/*", "consolidated*"]

TIMEOUT_SECONDS = 30.0
PAUSES_BEFORE_RETRY = (1.0, 3.0)
_BUSY = (408, 429)
_DIGITS = 18
"""A length of more digits is none."""


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


_HUB_ERRORS = {
    "GatedRepoError": (
        "{name} on the hub is gated: its owner must let you in",
        "accept the terms at {page}, then `hf auth login` or set HF_TOKEN, then `{again}`",
    ),
    "RepositoryNotFoundError": (
        "{name} is not on the hub, or it is private",
        "check the spelling at {page}; for a private one `hf auth login` or set HF_TOKEN",
    ),
    "LocalEntryNotFoundError": (
        "{name}: the hub cannot be reached: {cause}",
        "check the network, the proxy and HF_ENDPOINT, then `{again}`",
    ),
}
"""What to say of the hub's errors, by the names of their classes. Those of its transport library differ by version."""


def _snapshot(name: str, patterns: list[str]) -> Path:
    from huggingface_hub import get_session, snapshot_download

    client = get_session()
    hooks = client.event_hooks
    if _require_plain_names not in hooks["response"]:
        client.event_hooks = {**hooks, "response": [*hooks["response"], _require_plain_names]}
    try:
        return Path(
            snapshot_download(name, allow_patterns=patterns, ignore_patterns=_LEFT_OUT, cache_dir=hub_cache_directory())
        )
    except ModelError:
        raise
    except Exception as error:
        said, hint = _HUB_ERRORS.get(
            type(error).__name__,
            ("{name}: the download failed: {error}", "what has arrived is kept: `{again}` continues it"),
        )
        facts = {
            "name": name,
            "page": f"https://huggingface.co/{name}",
            "again": fetch_command(name),
            "cause": error.__cause__ or error,
            "error": f"{type(error).__name__}: {error}",
        }
        raise ModelError(said.format(**facts), hint.format(**facts)) from None


def _require_plain_names(response: Any) -> None:
    """Raise ModelError where an answer of the hub would name files or folders of its cache by a path.

    The cache names folders by a commit's hash and files by the ETag. A server that is not the hub could lead out of it.
    """
    commits = [response.headers.get("X-Repo-Commit")]
    if "/api/models/" in response.request.url.path and response.status_code == http.client.OK:
        with suppress(ValueError):  # the hub's library says what is wrong with an answer that is no JSON
            answer = json.loads(response.read())
            commits.append(answer.get("sha") if isinstance(answer, dict) else None)
    odd = [commit for commit in commits if commit is not None and not is_commit(str(commit))]
    tags = [response.headers.get(name, "") for name in ("ETag", "X-Linked-ETag")]
    odd += [tag for tag in tags if re.search(r"[/\\]|^.?\.+.?$", tag.removeprefix("W/"))]
    if odd:
        host = response.request.url.host
        raise ModelError(
            f"{host} answers with '{odd[0]:.80}', which is no commit or tag of the Hugging Face hub",
            "check HF_ENDPOINT and the proxy; nothing of that answer was kept",
        )


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
            _receive(address, target, 2 * CATALOGUE[dataset.name].size, on_received)
            break
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a redirect to no address
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


def _receive(address: str, target: Path, limit: int, on_received: Callable[[int], None]) -> None:
    """Raises ValueError where more than `limit` bytes are announced or come."""
    request = urllib.request.Request(address, headers={"User-Agent": f"timellm/{__version__}"})
    received, too_long = 0, f"it is longer than {limit:,} bytes, twice what is known of the dataset"
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response, target.open("wb") as file:
        length = (response.headers.get("Content-Length") or "").strip()
        announced = int(length) if length.isascii() and length.isdecimal() and len(length) < _DIGITS else None
        if length and (announced is None or announced > limit):
            raise ValueError(too_long if announced else f"the server announces a length of '{length:.40}'")
        while block := response.read(1 << 16):
            received += file.write(block)
            if received > limit:
                raise ValueError(too_long)
            on_received(received)
    if announced is not None and received != announced:
        raise _Incomplete(f"the connection ended after {received:,} of {announced:,} bytes")


def _may_pass(error: Exception) -> bool:
    """Whether the same request may succeed later. A client error of the request itself does not pass."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= http.client.INTERNAL_SERVER_ERROR or error.code in _BUSY
    return not isinstance(error, ValueError)


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
