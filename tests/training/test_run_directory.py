"""The files of a run: which are there, which stay, who may write."""

import errno
import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from timellm_cli.config import Config
from timellm_cli.errors import ConfigError
from timellm_cli.files import replacing
from timellm_cli.settings import resolve
from timellm_cli.training.run_directory import RunDirectory, locked


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def touch(directory: RunDirectory, *names: str) -> None:
    for name in names:
        (directory.path / name).touch()


def names(directory: RunDirectory) -> set[str]:
    return {path.name for path in directory.path.iterdir()}


def test_step_checkpoints_are_ordered_by_number_and_strangers_passed_over(directory: RunDirectory) -> None:
    touch(directory, "step-1000.pt", "step-900.pt", "step-x.pt", "step-5.pt.bak", "mystep-7.pt")
    assert [number for number, _ in directory.step_checkpoints()] == [900, 1000]


def test_the_newest_stay(directory: RunDirectory) -> None:
    touch(directory, "step-90.pt", "step-100.pt", "step-110.pt", "best.pt")
    directory.keep_newest(2)
    assert names(directory) == {"step-100.pt", "step-110.pt", "best.pt"}
    directory.keep_newest(5)
    assert names(directory) == {"step-100.pt", "step-110.pt", "best.pt"}


def test_the_checkpoint_that_a_run_goes_on_from_is_its_newest_state(directory: RunDirectory) -> None:
    directory.last.write_bytes(b"later")
    directory.step(90).write_bytes(b"earlier")
    directory.make_last(directory.step(90))
    assert directory.last.read_bytes() == b"earlier" and names(directory) == {"last.pt", "step-90.pt"}
    directory.make_last(directory.last)
    assert directory.last.read_bytes() == b"earlier"


def test_steps_beyond_the_resumed_one_go(directory: RunDirectory) -> None:
    touch(directory, "step-90.pt", "step-100.pt", "step-110.pt")
    assert directory.remove_after(100) == [directory.step(110)]
    assert names(directory) == {"step-90.pt", "step-100.pt"}


def test_a_run_goes_on_from_last_or_else_from_the_newest_step(directory: RunDirectory) -> None:
    assert directory.newest_checkpoint() is None
    assert not directory.holds_a_run()
    touch(directory, "best.pt")
    assert directory.newest_checkpoint() is None
    assert directory.holds_a_run()
    touch(directory, "step-9.pt", "step-10.pt")
    assert directory.newest_checkpoint() == directory.step(10)
    touch(directory, "last.pt")
    assert directory.newest_checkpoint() == directory.last


def test_the_written_configuration_is_one_that_config_reads(directory: RunDirectory) -> None:
    config = Config.model_validate({"data": {"columns": ["a", "b"]}, "llm": {"layers": "all"}, "run": {"name": "x"}})
    directory.write_config(config)
    assert tomllib.loads((directory.path / "config.toml").read_text(encoding="utf-8"))["llm"]["layers"] == "all"
    assert resolve(config_file=directory.path / "config.toml").config == config


def test_half_written_files_of_a_killed_process_are_swept_away(directory: RunDirectory) -> None:
    touch(directory, ".last.pt.123.tmp", "last.pt", "notes.tmp")
    directory.sweep()
    assert names(directory) == {"last.pt", "notes.tmp"}


def test_a_file_in_the_way_of_the_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").touch()
    with pytest.raises(ConfigError, match="cannot be made: ") as caught:
        RunDirectory(tmp_path / "checkpoints" / "run").create()
    assert "--checkpoints" in caught.value.hint


def test_a_file_that_fails_while_it_is_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


HOLDER = """
import sys, time
from pathlib import Path
from timellm_cli.training.run_directory import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_by_the_holders_id_and_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"another training, process {holder.pid}, is writing"), locked(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text(encoding="ascii") == str(os.getpid())


@pytest.mark.skipif(os.name == "nt", reason="POSIX locks")
@pytest.mark.parametrize("fault", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_or_syncing_of_folders_ends_no_training(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(fault, os.strerror(fault))

    sync = os.fsync
    monkeypatch.setattr(fcntl, "lockf", refuse)
    monkeypatch.setattr(os, "fsync", lambda file: refuse() if stat.S_ISDIR(os.fstat(file).st_mode) else sync(file))
    with locked(directory.path), replacing(directory.last) as file:
        file.write(b"whole")
    assert directory.last.read_bytes() == b"whole"


@pytest.mark.skipif(os.name == "nt", reason="POSIX locks")
def test_a_disk_that_fails_while_locking_is_not_taken_for_one_without_locks(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "lockf", fail)
    with pytest.raises(OSError, match="Input/output"), locked(directory.path):
        pass
