"""What is fuzzed: a reader, and bytes for it. Whatever the bytes are, a reader may raise a `TimellmError` alone."""

import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

from timellm_cli.config import Config, DataConfig
from timellm_cli.errors import TimellmError

Target = Callable[[bytes], None]


@cache
def _scratch() -> Path:
    return Path(tempfile.mkdtemp())


def read_csv(content: bytes) -> None:
    """The whole table, with and without filling; the first column of values is used."""
    from timellm_cli.data.read_table import read_table

    path = _scratch() / "fuzzed.csv"
    path.write_bytes(content)
    for fill in ("none", "linear"):
        data = DataConfig.model_validate({"dataset": "custom", "path": path, "target": "OT", "fill": fill})
        with suppress(TimellmError):
            table = read_table(path, data)
            assert fill != "none" or np.isfinite(table.values).all(), "a table without a value"


def read_profile(content: bytes) -> None:
    """A configuration file, and the same bytes as a `--set`."""
    from timellm_cli.settings import resolve

    path = _scratch() / "fuzzed.toml"
    path.write_bytes(content)
    with suppress(TimellmError):
        assert isinstance(resolve(config_file=path).config, Config)
    with suppress(TimellmError):
        resolve(assignments=[content.decode("utf-8", errors="replace")])


def read_checkpoint(content: bytes) -> None:
    """A checkpoint: the bytes as they are, and as the pickle inside an archive that is whole otherwise."""
    from timellm_cli.training.checkpoint import load_checkpoint

    path = _scratch() / "fuzzed.pt"
    for file in (content, _archive(content)):
        path.write_bytes(file)
        with suppress(TimellmError):
            load_checkpoint(path)


def read_metrics_of_a_run(content: bytes) -> None:
    """metrics.jsonl, and the picture of what could be read."""
    from timellm_cli.report.training_log import MetricsLog, read_metrics

    path = _scratch() / "metrics.jsonl"
    path.write_bytes(content)
    lines = read_metrics(path)
    assert all(0 <= line["step"] < 2**53 for line in lines)
    MetricsLog(path).start_after(10, scored=True)
    assert [line["step"] for line in read_metrics(path)] == [line["step"] for line in lines if line["step"] <= 10]


def read_llm_config(content: bytes) -> None:
    """config.json of an LLM: its shape, what a run with it weighs and needs, and which code would run it."""
    _plan_with_llm(config=content)


def read_tokenizer(content: bytes) -> None:
    """tokenizer.json of an LLM, and the tokens of a prompt."""
    _plan_with_llm(tokenizer=content)


def _plan_with_llm(config: bytes | None = None, tokenizer: bytes | None = None) -> None:
    from tests.hostile.seeds import LLAMA
    from timellm_cli.planning.hardware import Machine
    from timellm_cli.planning.plan import make_plan

    folder = _scratch() / "llm"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(json.dumps(LLAMA).encode() if config is None else config)
    (folder / "tokenizer.json").unlink(missing_ok=True)
    if tokenizer is not None:
        (folder / "tokenizer.json").write_bytes(tokenizer)
    values = {"data": {"dataset": "ETTh1"}, "llm": {"name": str(folder)}, "hardware": {"device": "cpu"}}
    with suppress(TimellmError):
        make_plan(Config.model_validate(values), Machine(None, 8 * 2**30, torch_has_cuda=False), from_file=False)


def _archive(pickle: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (
            ("data.pkl", pickle),
            ("byteorder", b"little"),
            ("version", b"3\n"),
            ("data/0", b"\0" * 64),
        ):
            archive.writestr(f"archive/{name}", content)
    return file.getvalue()


TARGETS: dict[str, Target] = {
    "csv": read_csv, "profile": read_profile, "checkpoint": read_checkpoint, "metrics": read_metrics_of_a_run,
    "config": read_llm_config, "tokenizer": read_tokenizer,
}  # fmt: skip
