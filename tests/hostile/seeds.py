"""Files that are right, for a fuzzer to spoil."""

import io
import json
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

from timellm_cli.settings import profiles_directory

CSVS = (
    "date,OT,load\n"
    + "".join(f"2024-01-{1 + row // 24:02d} {row % 24:02d}:00:00,{row}.5,{row % 7}\n" for row in range(72)),
    "date;OT\n01.02.2024;1\n02.02.2024;2\n03.02.2024;\n05.02.2024;4\n",
    '"date"\t"OT"\n2024/1/31\t1e3\n2024/2/29\t-2\n',
    "日期,OT\n2024年1月1日,1\n",
)  # fmt: skip


def seeds(target: str) -> list[bytes]:
    """Some right files for a target."""
    if target == "csv":
        return [text.encode(encoding) for text in CSVS for encoding in ("utf-8", "utf-16", "gb18030")]
    if target == "profile":
        files = sorted(profiles_directory().glob("*.toml"))
        return [*(path.read_bytes() for path in files), b"train.batch_size=4", b"prompt.template={min}{lags}"]
    if target == "metrics":
        return [metrics_bytes(), metrics_bytes().replace(b"0.5", b"NaN"), metrics_bytes()[:-20]]
    if target == "config":
        return [json.dumps({**LLAMA, **change}).encode() for change in ({}, MOE, {"model_type": "gpt2", "n_embd": 32})]
    if target == "tokenizer":
        return [tokenizer_bytes()]
    return [checkpoint_bytes(), zipfile.ZipFile(io.BytesIO(checkpoint_bytes())).read(_pickle_name())]


LLAMA = {
    "model_type": "llama", "vocab_size": 257, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
    "hidden_act": "silu", "rope_theta": 1e4, "tie_word_embeddings": True, "torch_dtype": "float32",
}  # fmt: skip
MOE = {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}


def tokenizer_bytes() -> bytes:
    """A tokenizer.json whose ids are byte values."""
    import tempfile

    from tests.conftest import write_byte_tokenizer

    with tempfile.TemporaryDirectory() as folder:
        write_byte_tokenizer(Path(folder))
        return (Path(folder) / "tokenizer.json").read_bytes()


def metrics_bytes() -> bytes:
    """A line of each kind."""
    from dataclasses import asdict

    from timellm_cli.training.records import BatchHalved, EpochFinished, MemoryMeasured, StepLogged

    records = {
        "step": StepLogged(5, 1, 0.5, 1e-3, 9.0, 1.0, 2.0),
        "memory": MemoryMeasured(10, "CPU", None, {"weights": 5}, 7, 7),
        "memory_short": BatchHalved(10, "step", 4),
        "epoch": EpochFinished(1, 10, 1.0, 2.0, 2.0, 1.5, 3.0, 3.0, 2.5, 4.0),
    }
    return b"".join(json.dumps({"event": name, **asdict(one)}).encode() + b"\n" for name, one in records.items())


def checkpoint_bytes() -> bytes:
    """A checkpoint that no model fits."""
    import tempfile

    import numpy as np
    import torch

    from timellm_cli.config import Config
    from timellm_cli.data.cadence import Every, to_text
    from timellm_cli.data.scale import Scaler
    from timellm_cli.splits import RowsIdentity
    from timellm_cli.training.checkpoint import Checkpoint, save_checkpoint

    scaler = Scaler(np.array([0.5]), np.array([2.0]))
    cadence = to_text(Every(timedelta(hours=1), datetime(2024, 1, 1)))
    rows = {split: RowsIdentity(3, "2024-01-01", "2024-01-02", "12ab") for split in ("train", "val", "test")}
    weights = {"head.weight": torch.arange(6.0).reshape(2, 3)}
    checkpoint = Checkpoint(
        weights, Config(), scaler, ("OT",), ("",), cadence, "%Y-%m-%d", rows, {"test_mse": 0.1}, "abc"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pt"
        save_checkpoint(path, checkpoint)
        return path.read_bytes()


def _pickle_name() -> str:
    with zipfile.ZipFile(io.BytesIO(checkpoint_bytes())) as archive:
        return next(name for name in archive.namelist() if name.endswith("data.pkl"))
