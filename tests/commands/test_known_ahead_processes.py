"""`predict --processes` with text and columns about the days ahead: the figures of one process."""

from pathlib import Path

import pytest

from tests.commands.test_known_ahead import COLUMN, Train, shop, train  # noqa: F401  (fixtures)
from tests.conftest import Cli
from timellm_cli.forecasting.shards import Shards

EVENTS = "start,series,text\n2024-01-10,left,sale\n2024-02-06,right,fair\n"
LATER = "start,series,text\n2024-03-21,left,sale\n2024-03-21,right,fair\n"


@pytest.fixture
def panel(train: Train, shop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A checkpoint of the two shops in long form, `past.csv`, `future.csv` with the sales after it, and later events.

    A part is one series.
    """
    monkeypatch.setattr("timellm_cli.forecasting.panel.SERIES_AT_ONCE", 1)
    rows = [line.split(",") for line in shop.read_text(encoding="utf-8").splitlines()[1:]]
    past = [f"{date},{name},{sale},{count}" for place, name in ((2, "left"), (3, "right"))
            for date, sale, count in ((row[0], row[1], row[place]) for row in rows) if count]  # fmt: skip
    future = [f"{row[0]},{name},{row[1]}" for name in ("left", "right") for row in rows]
    folder = shop.parent
    (folder / "past.csv").write_text("\n".join(["date,shop,sale,count", *past, ""]), encoding="utf-8")
    (folder / "future.csv").write_text("\n".join(["date,shop,sale", *future, ""]), encoding="utf-8")
    (folder / "events.csv").write_text(EVENTS, encoding="utf-8")
    (folder / "later.csv").write_text(LATER, encoding="utf-8")
    train("panel", "--id-column=shop", "--target=count", "--events=events.csv", *COLUMN, "--max-steps=30")
    return folder


def test_two_processes_write_the_bytes_of_one_and_new_events_make_the_parts_anew(
    cli: Cli, panel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("predict", "checkpoints/panel/best.pt", "past.csv", "--future", "future.csv", "--events", "later.csv")
    one = cli(*command, "-o", "one.csv")
    assert one.returncode == 0, one.stderr
    two = cli(*command, "-o", "two.csv", "--processes", 2)
    assert two.returncode == 0, two.stderr
    written = (panel / "one.csv").read_bytes()
    assert (panel / "two.csv").read_bytes() == written
    assert len(written.splitlines()) == 9

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("timellm_cli.commands.predict_processes._join", stop)
        assert cli(*command, "-o", "two.csv", "--processes", 2).returncode == 130
    assert Shards(panel / "two.csv").is_done(0)
    assert Shards(panel / "two.csv").job().future == "future.csv"
    (panel / "later.csv").write_text(LATER.replace("left,sale", "left,fair"), encoding="utf-8")
    again = cli(*command, "-o", "two.csv", "--processes", 2)
    assert again.returncode == 0, again.stderr
    assert "the input has changed since 'two.csv.parts' was begun: its parts are made anew" in again.stderr
    assert (panel / "two.csv").read_bytes() != written, "the first shop has another event now"
    whole = cli(*command, "-o", "one.csv")
    assert whole.returncode == 0, whole.stderr
    assert (panel / "two.csv").read_bytes() == (panel / "one.csv").read_bytes()


def test_the_text_of_all_series_is_read_before_they_are_shared_out(cli: Cli, panel: Path) -> None:
    """Lines that no run has read yet are read once, by the command and not by its processes."""
    (panel / "later.csv").write_text(LATER.replace("fair", "a fair of books"), encoding="utf-8")
    command = ("predict", "checkpoints/panel/best.pt", "past.csv", "--future", "future.csv", "--events", "later.csv")
    finished = cli(*command, "-o", "two.csv", "--processes", 2)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count("lines of text, once") == 1
    again = cli(*command, "-o", "three.csv", "--processes", 1)
    assert "of text, once" not in again.stderr


def test_a_wrong_file_of_what_is_known_is_refused_before_processes_are_started(cli: Cli, panel: Path) -> None:
    command = ("predict", "checkpoints/panel/best.pt", "past.csv", "-o", "two.csv", "--processes", 2)
    for flags, words in (
        (("--future", "futur.csv"), "futur.csv"),
        (("--future", "future.csv", "--events", "latr.csv"), "no file of events 'latr.csv'"),
    ):
        finished = cli(*command, *flags)
        assert finished.returncode in (2, 3)
        assert words in finished.stderr
        assert not (panel / "two.csv.parts").exists()
