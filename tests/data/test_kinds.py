"""Every kind of file in the catalogue is read with the right next timestamp, value and note, or refused clearly."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.kinds import READ, REFUSED, outcome
from tests.data.kinds import KINDS, Kind


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_kind_of_file_has_its_right_answer(kind: Kind, tmp_path: Path) -> None:
    what, said = outcome(kind, tmp_path)
    assert what == (REFUSED if kind.refused else READ), said


def test_each_kind_is_one_of_its_own() -> None:
    assert len(KINDS) >= 100
    for key in ("name", "content"):
        same = Counter((getattr(kind, key), "" if key == "name" else str(kind.options)) for kind in KINDS)
        assert [what for what, count in same.items() if count > 1] == []
