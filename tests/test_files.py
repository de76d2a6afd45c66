"""The one writer of files: a file is replaced as a whole or not at all; devices, pipes and links stay what they are."""

import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from timellm_cli.errors import ConfigError
from timellm_cli.files import check_target, replacing, writing

posix = pytest.mark.skipif(os.name != "posix", reason="links, modes, pipes and devices as POSIX has them")


def write(path: Path, content: bytes = b"new") -> None:
    with writing(path), replacing(path) as file:
        file.write(content)


def test_a_file_is_replaced_as_a_whole_and_an_error_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    write(path)
    assert path.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


@posix
def test_a_link_stays_and_its_target_gets_the_content(tmp_path: Path) -> None:
    target, link = tmp_path / "deep" / "target.csv", tmp_path / "link.csv"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to(target)
    write(link)
    assert link.is_symlink() and target.read_bytes() == b"new"
    assert [path.name for path in target.parent.iterdir()] == ["target.csv"]


@posix
def test_a_link_to_nothing_yet_makes_its_target(tmp_path: Path) -> None:
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "target.csv")
    write(link)
    assert link.is_symlink() and (tmp_path / "target.csv").read_bytes() == b"new"


@posix
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o640])
def test_the_mode_of_a_file_stays(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")
    path.chmod(mode)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
def test_a_pipe_is_written_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write(pipe)
    reader.join()
    assert read == [b"new"] and pipe.is_fifo()


@posix
def test_a_device_is_written_and_stays_a_device() -> None:
    write(Path("/dev/null"))
    assert Path("/dev/null").is_char_device()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux has a device that is always full")
def test_a_full_device_is_one_clear_error_and_stays() -> None:
    with pytest.raises(ConfigError, match="/dev/full cannot be written: No space left on device"):
        write(Path("/dev/full"))
    assert Path("/dev/full").is_char_device()


@posix
def test_standard_output_by_its_path_is_written_where_it_goes(tmp_path: Path) -> None:
    import subprocess

    code = "from pathlib import Path; from tests.test_files import write; write(Path('/dev/stdout'), b'forecast')"
    with (tmp_path / "out.csv").open("wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True, cwd=Path(__file__).parent.parent)
    assert (tmp_path / "out.csv").read_bytes() == b"forecast"
    assert Path("/dev/stdout").is_symlink()


def test_an_output_is_neither_an_input_nor_another_output(tmp_path: Path) -> None:
    source, plot = tmp_path / "in.csv", tmp_path / "plot.png"
    source.write_bytes(b"date,y")
    with pytest.raises(ConfigError, match="is an input, which would be lost"):
        check_target("--output", tmp_path / "." / "in.csv", [source])
    with pytest.raises(ConfigError, match="is named for another output, too"):
        check_target("--plot", plot, [source], [plot])
    check_target("--plot", plot, [source], [None, tmp_path / "other.csv"])
