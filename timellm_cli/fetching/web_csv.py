"""A dataset's CSV from its address or a mirror: whole, plausible, and compared with its known checksum. Light."""

import csv
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from timellm_cli import __version__
from timellm_cli.console import say
from timellm_cli.datasets import Dataset
from timellm_cli.errors import ConfigError, DataError
from timellm_cli.fetching.progress import download_progress

TIMEOUT_SECONDS = 30.0
PAUSES_BEFORE_RETRY = (1.0, 3.0)
_BUSY = (408, 429)


class _Incomplete(OSError):
    """The connection ended before the announced length."""


def download_csv(dataset: Dataset, expected_size: int, folder: Path, mirror: str | None) -> Path:
    """Download a dataset's CSV into `folder` and check it.

    Other bytes than the known ones get a warning, for some mirrors serve another edition. Raises DataError when the
    address does not answer or when the file is not this dataset's table, ConfigError when `mirror` is no address.
    """
    address = address_of(dataset, mirror)
    target = folder / f"{dataset.name}.csv"
    for pause in (*PAUSES_BEFORE_RETRY, None):
        try:
            _receive(address, dataset.name, expected_size, target)
            break
        except (OSError, http.client.HTTPException) as error:
            if pause is None or not _may_pass(error):
                raise DataError(
                    f"{dataset.name}: cannot download {address}: {_reason(error)}",
                    "check the network and the address; --mirror URL (or TIMELLM_MIRROR) takes URL/NAME.csv instead",
                ) from None
            say(f"{dataset.name}: {_reason(error)}; trying again in {pause:g} s")
            time.sleep(pause)
    _refuse_another_table(target, dataset, address)
    _warn_of_other_bytes(target, dataset, address)
    return target


def address_of(dataset: Dataset, mirror: str | None) -> str:
    """Where the CSV is: the dataset's own address, or NAME.csv below the mirror's. Raises ConfigError."""
    if mirror is None:
        assert dataset.url is not None
        return dataset.url
    if urlsplit(mirror).scheme not in ("http", "https", "file"):
        raise ConfigError(f"mirror '{mirror}' is no address", "write it with its scheme, such as https://host/folder")
    return f"{mirror.rstrip('/')}/{dataset.name}.csv"


def _receive(address: str, name: str, expected_size: int, target: Path) -> None:
    request = urllib.request.Request(address, headers={"User-Agent": f"timellm/{__version__}"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response, target.open("wb") as sink:
        announced = response.headers.get("Content-Length")
        received = 0
        with download_progress(name, int(announced or expected_size)) as progress:
            while block := response.read(1 << 16):
                received += sink.write(block)
                progress(received)
    if announced is not None and received != int(announced):
        raise _Incomplete(f"the connection ended after {received:,} of {int(announced):,} bytes")


def _may_pass(error: Exception) -> bool:
    """Whether the same request may succeed later: not when the server has said what is wrong with it."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in _BUSY
    return True


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    return str(error.reason if isinstance(error, urllib.error.URLError) else error) or type(error).__name__


def _refuse_another_table(path: Path, dataset: Dataset, address: str) -> None:
    expected = ["date", *dataset.columns]
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            odd = next((line for line, row in enumerate(rows, start=2) if len(row) != len(expected)), None)
            count = rows.line_num - 1
    except (UnicodeDecodeError, csv.Error) as error:
        raise _not_this_table(dataset, address, f"it is no CSV text ({error})") from None
    if header != expected:
        raise _not_this_table(dataset, address, f"it begins {','.join(header)[:60]!r}, not {','.join(expected)!r}")
    if odd is not None:
        raise _not_this_table(dataset, address, f"line {odd} does not have {len(expected)} values")
    if count != dataset.rows:
        raise _not_this_table(dataset, address, f"it has {count:,} rows, not {dataset.rows:,}")


def _not_this_table(dataset: Dataset, address: str, why: str) -> DataError:
    return DataError(
        f"{dataset.name}: what {address} serves is not this dataset: {why}",
        "nothing was kept; name another mirror: --mirror URL (or TIMELLM_MIRROR) takes URL/NAME.csv",
    )


def _warn_of_other_bytes(path: Path, dataset: Dataset, address: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != dataset.sha256:
        say(
            f"warning: {dataset.name} from {address} has SHA-256 {found}, not {dataset.sha256}; "
            "header and row count are right, so it is kept, but scores may differ from published ones"
        )
