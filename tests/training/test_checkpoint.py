"""Checkpoints: what goes in comes out, and nothing else is let in."""

import math
import pickle
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.training.conftest import MakeConfig, assert_same_weights, train
from timellm_cli import __version__
from timellm_cli.config import Config
from timellm_cli.data.cadence import Every, to_text
from timellm_cli.data.scale import Scaler
from timellm_cli.errors import ModelError
from timellm_cli.evaluation.bands import Intervals
from timellm_cli.splits import RowsIdentity
from timellm_cli.training.checkpoint import Checkpoint, load_checkpoint, load_runner, save_checkpoint
from timellm_cli.training.state import capture_random_state, restore_random_state


def small_checkpoint() -> Checkpoint:
    """A checkpoint that no model fits."""
    return Checkpoint(
        weights={"a.b": torch.arange(6.0).reshape(2, 3), "c": torch.tensor([1e-40, -0.0])},
        config=Config(),
        scaler=Scaler(np.array([1 / 3, 2.0]), np.array([1e-9, 5.0])),
        columns=("x", "日本 y"),
        ids=("",),
        cadence=to_text(Every(timedelta(hours=1), datetime(2024, 1, 1))),
        date_format="%Y-%m-%d %H:%M:%S",
        rows={split: RowsIdentity(3, "2024-01-01", "2024-01-02", "12ab") for split in ("train", "val", "test")},
        metrics={"test_mse": 0.1 + 0.2},
        llm_fingerprint="abc",
        intervals=Intervals(("x",), 24, 9, (50, 80), np.arange(192, dtype=np.float32).reshape(2, 1, 96), (1.5, 0.5)),
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "best.pt"
    save_checkpoint(path, small_checkpoint())
    return path


def test_everything_comes_back_as_it_was(saved: Path) -> None:
    before, after = small_checkpoint(), load_checkpoint(saved)
    assert_same_weights(after.weights, before.weights)
    assert np.array_equal(after.scaler.mean_C, before.scaler.mean_C)
    assert np.array_equal(after.scaler.std_C, before.scaler.std_C)
    for name in ("config", "columns", "cadence", "metrics", "llm_fingerprint", "version", "training"):
        assert getattr(after, name) == getattr(before, name), name
    bands, expected = after.intervals, before.intervals
    assert bands is not None
    assert expected is not None
    for name in ("channels", "period", "windows", "levels"):
        assert getattr(bands, name) == getattr(expected, name), name
    assert np.array_equal(bands.halves_LCH, expected.halves_LCH)
    assert after.version == __version__


def test_the_file_loads_where_nothing_but_weights_is_allowed(saved: Path) -> None:
    assert torch.load(saved, weights_only=True)["columns"] == ["x", "日本 y"]


def test_a_run_leaves_small_files_without_the_llm(make_config: MakeConfig, tiny_llm: Path) -> None:
    run = train(make_config(train__max_steps=4, train__accumulate=1))
    llm_bytes = (tiny_llm / "model.safetensors").stat().st_size
    best = load_checkpoint(run.directory.best)
    assert sum(weight.numel() for weight in best.weights.values()) * 4 < llm_bytes
    assert not [name for name in best.weights if "llm" in name]
    assert torch.load(run.directory.last, weights_only=True)["training"]["run"]["step"] == 4


def test_a_loaded_model_has_the_weights_and_the_wrong_llm_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(train__max_steps=2)
    run = train(config)
    checkpoint = load_checkpoint(run.directory.best)
    runner = load_runner(checkpoint, config, torch.device("cpu"))
    assert_same_weights(runner.model.own_state(), run.weights)
    other = Checkpoint(**{**vars(checkpoint), "llm_fingerprint": "0123"})
    with pytest.raises(ModelError, match=r"is not the one of the checkpoint: fingerprint .* trained with 0123"):
        load_runner(other, config, torch.device("cpu"))


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.target, "boom")


def test_a_pickle_is_refused_and_nothing_of_it_runs(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    plain, in_archive, as_state = tmp_path / "plain.pt", tmp_path / "archive.pt", tmp_path / "state.pt"
    plain.write_bytes(pickle.dumps(Bomb(target)))
    torch.save(Bomb(target), in_archive)
    content = torch.load(_written(tmp_path), weights_only=True)
    torch.save({**content, "training": {"step": Bomb(target)}}, as_state)
    for path in (plain, in_archive, as_state):
        with pytest.raises(ModelError, match="could run code when loaded: refused"):
            load_checkpoint(path)
    assert not target.exists()
    Bomb(target).__reduce__()[0](*Bomb(target).__reduce__()[1])
    assert target.exists(), "the bomb of this test must be a real one"


def _written(folder: Path) -> Path:
    save_checkpoint(folder / "good.pt", small_checkpoint())
    return folder / "good.pt"


def test_each_kind_of_wrong_file_has_its_own_message(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    cases = {
        "empty.pt": (b"", "is no timellm checkpoint"),
        "text.pt": (b"date,OT\n1,2\n", "is no timellm checkpoint"),
        "half.pt": (content[: len(content) // 2], "is damaged: its end is missing"),
        "almost.pt": (content[:-1], "is damaged: its end is missing"),
        "pickle.pt": (pickle.dumps({"a": 1}), "is a Python pickle"),
    }
    for name, (data, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelError, match=message):
            load_checkpoint(tmp_path / name)


def test_a_checkpoint_of_another_program_is_not_called_damaged(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match=r"'.*other\.pt' is no timellm checkpoint") as caught:
        load_checkpoint(tmp_path / "other.pt")
    assert "timellm import" in caught.value.hint


def test_a_compressed_archive_is_refused_before_it_is_unpacked(saved: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(ModelError, match="compressed archive"):
        load_checkpoint(packed)


def test_a_missing_file_and_a_folder_list_what_is_nearby(saved: Path) -> None:
    with pytest.raises(ModelError, match="not found") as caught:
        load_checkpoint(saved.parent / "bst.pt")
    assert str(saved) in caught.value.hint
    with pytest.raises(ModelError, match="is a folder") as caught:
        load_checkpoint(saved.parent)
    assert str(saved) in caught.value.hint


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format_version", 99, r"checkpoint format 99, made by timellm 7\.0; this is timellm"),
        ("config", '{"window": {"seq_length": 5}}', r"made by timellm 7\.0, .* does not read: window\.seq_length"),
        ("weights", {"a": "text"}, "a is no tensor"),
        ("columns", None, "is a damaged checkpoint"),
        ("training", {"step": 1}, "is a damaged checkpoint"),
    ],
)
def test_contents_that_do_not_fit_are_named(saved: Path, key: str, value: object, message: str) -> None:
    content = torch.load(saved, weights_only=True)
    torch.save({**content, "version": "7.0", key: value}, saved)
    with pytest.raises(ModelError, match=message):
        load_checkpoint(saved)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_file_with_wrong_bytes_loads_or_is_refused_but_never_crashes(
    saved: Path, changes: list[tuple[float, int]]
) -> None:
    content = bytearray(saved.read_bytes())
    for position, value in changes:
        content[int(position * len(content))] = value
    damaged = saved.with_name("damaged.pt")
    damaged.write_bytes(content)
    try:
        assert isinstance(load_checkpoint(damaged), Checkpoint)
    except ModelError as error:
        assert "damaged.pt" in error.message


def test_a_full_disk_leaves_the_old_checkpoint_and_no_debris(saved: Path) -> None:
    resource = pytest.importorskip("resource", reason="only POSIX systems limit the size of files")
    before = saved.read_bytes()
    large = Checkpoint(**{**vars(small_checkpoint()), "weights": {"w": torch.zeros(100_000)}})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(ModelError, match=r"best\.pt' cannot be written: File too large") as caught:
            save_checkpoint(saved, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "intact" in caught.value.hint
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir() if path.suffix != ".csv"] == ["best.pt"]


def test_the_random_generator_continues_where_they_were_captured(tmp_path: Path) -> None:
    torch.save(capture_random_state(), tmp_path / "state.pt")
    drawn = torch.rand(3).tolist()
    restore_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.rand(3).tolist() == drawn


@pytest.mark.parametrize("what", ["sizes beyond the end", "a password"])
def test_an_archive_that_cannot_be_checked_is_damaged(saved: Path, what: str) -> None:
    content = bytearray(saved.read_bytes())
    entry = content.rfind(b"PK\x01\x02")  # the last entry of the directory
    if what == "a password":
        content[entry + 8] |= 1
    else:
        content[entry + 20 : entry + 28] = (2**31 - 2).to_bytes(4, "little") * 2
    saved.write_bytes(bytes(content))
    with pytest.raises(ModelError, match="is damaged"):
        load_checkpoint(saved)


ODD = (None, True, -1, math.nan, "x", [], {"a": {}}, torch.tensor([1, 2]), torch.zeros(2, device="meta"), ["\x1b"])


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_no_entry_of_another_type_is_let_in_or_ends_in_a_traceback(saved: Path) -> None:
    """Free texts and ids may be any text, state and bands may be absent; everything else is refused by name."""
    plain = torch.load(saved, weights_only=True)
    free = {"version", "date_format", "llm_fingerprint", "training_id"}
    allowed = {(key, "'x'") for key in free} | {(key, "None") for key in ("training", "intervals", "days")}
    allowed.add(("ids", repr(["\x1b"])))
    let_in = set()
    forged = [(key, odd, {**plain, key: odd}) for key in plain for odd in ODD]
    forged += [
        (f"rows.{key}", odd, {**plain, "rows": {**plain["rows"], "val": {**plain["rows"]["val"], key: odd}}})
        for key in ("rows", "first", "last", "digest")
        for odd in ODD
        if odd != "x" or key == "rows"
    ]
    for key, odd, content in forged:
        torch.save(content, saved)
        try:
            load_checkpoint(saved)
            let_in.add((key, repr(odd)))
        except ModelError:
            continue
    assert let_in == allowed
