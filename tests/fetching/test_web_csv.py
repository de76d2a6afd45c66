"""CSV files from a server on loopback: retries, truncation, impostors, other editions."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.loopback import Answer, Server, files_below, serving
from timellm_cli.datasets import DATASETS
from timellm_cli.errors import ConfigError, DataError
from timellm_cli.fetching import downloads
from timellm_cli.fetching.catalogue import CATALOGUE
from timellm_cli.fetching.fetch import Reporter, fetch

PATH = "/ETTh1.csv"


def etth1(rows: int = 17_420, load: str = "1.5") -> bytes:
    """A table of ETTh1's shape."""
    return ("date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT\n" + f"2016-07-01 00:00:00{f',{load}' * 7}\n" * rows).encode()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A mirror whose table has the known checksum; retries come at once."""
    known = replace(DATASETS["ETTh1"], sha256=hashlib.sha256(etth1()).hexdigest())
    monkeypatch.setitem(DATASETS, "ETTh1", known)
    monkeypatch.setattr(downloads, "PAUSES_BEFORE_RETRY", (0.0, 0.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as running:
        running.routes[PATH] = [Answer(etth1())]
        yield running


def test_the_file_lands_in_the_cache_with_its_credit(
    server: Server, private_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes: list[str] = []
    path = fetch("ETTh1", server.address + "/", Reporter(notes.append))
    assert path.read_bytes() == etth1()
    assert files_below(private_cache) == ["data/ETTh1.NOTICE.txt", "data/ETTh1.csv"]
    assert "zhouhaoyi/ETDataset" in path.with_suffix(".NOTICE.txt").read_text(encoding="utf-8")
    (note,) = notes
    assert note.startswith("Fetched ETTh1, CC BY-ND 4.0.")
    assert tuple(capsys.readouterr()) == ("", "")


def test_the_public_address_is_used_without_a_mirror(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "ETTh1", replace(DATASETS["ETTh1"], url=f"{server.address}/public/ETTh1.csv"))
    server.routes["/public/ETTh1.csv"] = [Answer(etth1())]
    fetch("ETTh1")
    assert server.requests == ["GET /public/ETTh1.csv"]


def test_what_is_there_is_not_fetched_again(server: Server) -> None:
    assert fetch("ETTh1", server.address) == fetch("ETTh1", server.address)
    assert server.count(PATH) == 1


def test_other_bytes_of_the_same_table_are_kept_with_a_warning(server: Server) -> None:
    notes: list[str] = []
    other = etth1(load="2.5")
    server.routes[PATH] = [Answer(other)]
    assert fetch("ETTh1", server.address, Reporter(notes.append)).read_bytes() == other
    warning = notes[0]
    assert warning.startswith("warning: ")
    assert hashlib.sha256(other).hexdigest() in warning
    assert DATASETS["ETTh1"].sha256 in warning


@pytest.mark.parametrize(
    "trouble",
    [Answer(b"busy", 503), Answer(b"slow down", 429), Answer(etth1()[:1000], announced=len(etth1()))],
    ids=["503", "429", "truncated"],
)
def test_a_passing_trouble_is_tried_again(server: Server, trouble: Answer) -> None:
    notes: list[str] = []
    server.routes[PATH] = [trouble, trouble, Answer(etth1())]
    assert fetch("ETTh1", server.address, Reporter(notes.append)).read_bytes() == etth1()
    assert server.count(PATH) == 3
    assert sum("trying again" in note for note in notes) == 2


@pytest.mark.parametrize(
    ("answer", "requests", "message"),
    [
        (Answer(b"busy", 500), 3, "500"),
        (Answer(b"gone", 404), 1, "404"),
        (Answer(etth1()[:1000], announced=len(etth1())), 3, f"1,000 of {len(etth1()):,} bytes"),
        (Answer(b"<!DOCTYPE html><html>Sign in</html>"), 1, "<!DOCTYPE html>"),
        (Answer(b""), 1, "begins ''"),
        (Answer(etth1(rows=17_419)), 1, "17,419 rows, not 17,420"),
        (Answer(etth1() + b"2018-06-26 20:00:00,1\n"), 1, "line 17422"),
        (Answer(b"PK\x03\x04\xff\xfe\x00"), 1, "no CSV text"),
        (Answer(etth1().replace(b"OT", b"XX", 1)), 1, "begins 'date,HUFL"),
    ],
    ids=["500", "404", "truncated", "HTML", "empty", "short", "ragged", "binary", "header"],
)
def test_what_is_not_the_whole_table_is_refused_and_leaves_nothing(
    server: Server, private_cache: Path, answer: Answer, requests: int, message: str
) -> None:
    server.routes[PATH] = [answer]
    with pytest.raises(DataError) as error:
        fetch("ETTh1", server.address)
    assert message in error.value.message
    assert "--mirror" in error.value.hint
    assert server.count(PATH) == requests
    assert files_below(private_cache) == []


ENDLESS = b"1" * 6_000_000
"""More than twice what is known of ETTh1."""


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            Answer(ENDLESS, headers={"Content-Length": "", "Transfer-Encoding": "identity"}),
            "it is longer than 5,179,314",
        ),
        (Answer(ENDLESS), "it is longer than 5,179,314 bytes"),
        (Answer(b"x", headers={"Content-Length": "9" * 30}), "announces a length of '999"),
        (Answer(b"x", headers={"Content-Length": "many"}), "announces a length of 'many'"),
        (Answer(b"x", headers={"Content-Length": "-5"}), "announces a length of '-5'"),
        (Answer(b"", 302, {"Location": "http://[nowhere"}), "cannot download"),
        (Answer(b"", 302, {"Location": "file:///etc/hostname"}), "cannot download"),
        (Answer(b"", 302, {"Location": "http://127.0.0.1:port/"}), "cannot download"),
        (Answer(b"", 302, {"Location": "http://\u00fc\u00df.invalid:0/ "}), "cannot download"),
    ],
    ids=["endless", "too long", "huge length", "no number", "negative", "no host", "a file", "no port", "odd"],
)
def test_lengths_and_redirects_that_make_no_sense_are_one_sentence(
    server: Server, private_cache: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, message: str
) -> None:
    monkeypatch.setattr(downloads, "PAUSES_BEFORE_RETRY", ())
    server.routes[PATH] = [answer]
    with pytest.raises(DataError) as error:
        fetch("ETTh1", server.address)
    assert message in error.value.message
    assert files_below(private_cache) == []


def test_a_silent_server_is_given_up(server: Server, private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.2)
    server.routes[PATH] = [Answer(etth1(), stall_after=100)]
    with pytest.raises(DataError, match=r"no answer within 0\.2 s"):
        fetch("ETTh1", server.address)
    assert files_below(private_cache) == []


def test_an_address_where_nobody_listens_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PAUSES_BEFORE_RETRY", ())
    with serving() as closed:
        address = closed.address
    with pytest.raises(DataError, match="cannot download"):
        fetch("ETTh1", address)


def test_a_folder_can_be_the_mirror(tmp_path: Path, server: Server) -> None:
    (tmp_path / "ETTh1.csv").write_bytes(etth1())
    assert fetch("ETTh1", tmp_path.as_uri()).read_bytes() == etth1()


def test_a_mirror_needs_a_scheme() -> None:
    with pytest.raises(ConfigError, match="no address"):
        fetch("ETTh1", "mirror.example.org/ETT")


def test_the_reference_copies_have_the_pinned_checksums_and_sizes(shared_dir: Path) -> None:
    for name in ("ETTh1", "ETTh2"):
        content = (shared_dir / "data" / "ETT-small" / f"{name}.csv").read_bytes()
        assert hashlib.sha256(content).hexdigest() == DATASETS[name].sha256
        assert len(content) == CATALOGUE[name].size


def test_the_real_table_passes_from_a_mirror(shared_dir: Path) -> None:
    notes: list[str] = []
    path = fetch("ETTh2", (shared_dir / "data" / "ETT-small").as_uri(), Reporter(notes.append))
    assert path.stat().st_size == CATALOGUE["ETTh2"].size
    assert not any("warning" in note for note in notes)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    status=st.sampled_from([200, 203, 204, 206, 301, 302, 307, 308, 400, 401, 403, 404, 410, 416, 429, 500, 502, 503]),
    body=st.binary(max_size=200),
    name=st.sampled_from(
        ["Location", "Content-Range", "Content-Encoding", "Content-Type", "Retry-After", "Set-Cookie"]
    ),
    value=st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40),
    missing=st.integers(0, 5),
)
def test_no_answer_of_a_mirror_is_taken_for_the_table_or_ends_in_a_traceback(
    server: Server, private_cache: Path, monkeypatch: pytest.MonkeyPatch,
    status: int, body: bytes, name: str, value: str, missing: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(downloads, "PAUSES_BEFORE_RETRY", ())
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 5)
    server.routes[PATH] = [Answer(body, status, {name: value}, announced=max(len(body) - missing, 0))]
    with pytest.raises(DataError):
        fetch("ETTh1", server.address)
    assert files_below(private_cache) == []
