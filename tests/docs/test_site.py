"""The documentation as a site, built by the command that the contributor's page names."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.docs.pages import DOCS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(DOCS, folder / "docs")
    shutil.copy(REPOSITORY / "zensical.toml", folder)
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=folder, capture_output=True, encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    return folder / "site"


def test_the_site_has_each_page_and_its_pictures(site: Path) -> None:
    for page in DOCS.glob("*.md"):
        name = "index.html" if page.stem == "index" else f"{page.stem}/index.html"
        heading = page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").replace("`", "")
        text = re.sub(r"<[^>]+>", "", (site / name).read_text(encoding="utf-8"))
        assert heading in text, name
    assert {path.name for path in (DOCS / "pictures").glob("*.svg")} <= {path.name for path in site.rglob("*.svg")}


def test_every_page_is_in_the_sites_navigation() -> None:
    configured = (REPOSITORY / "zensical.toml").read_text(encoding="utf-8")
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert [page for page in pages if f'"{page}"' not in configured] == []
