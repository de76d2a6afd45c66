"""Cuts tests/golden out of the reference data, and puts the cut together again.

To cut: `python -m tests.golden.cut ../shared/golden`. The cut holds the numbers of the original for a tiny Llama and
for two columns of a CSV; tests/golden/README.md says what was left out.
"""

import gzip
import lzma
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

HERE = Path(__file__).parent
_MAPPING = "mapping_layer.weight"
_ROWS = slice(None, None, 50)
"""The rows of the mapping whose gradients are kept."""
_COLUMNS = {"load_a": 0, "OT": 6}
"""The columns of the CSV that are kept, with the place that the original's data set gives each."""


def join_llama(target: Path) -> Path:
    """Write the folder `llama` as the reference data has it, from the cut: a whole checkpoint of the original."""
    folder = shutil.copytree(HERE / "llama", target / "llama", ignore=shutil.ignore_patterns("weights.npz"))
    llm = load_file(HERE / "llama" / "llm" / "model.safetensors")
    weights = {name: torch.from_numpy(values) for name, values in np.load(HERE / "llama" / "weights.npz").items()}
    embedding_VE = llm["embed_tokens.weight"].double()
    # Of the mapping's U x V weights only the product with the embedding counts, which is what was kept.
    weights[_MAPPING] = (weights.pop("prototypes_UE").double() @ torch.linalg.pinv(embedding_VE)).float()
    frozen = {f"llm_model.{name}": tensor for name, tensor in llm.items()}
    torch.save({"word_embeddings": llm["embed_tokens.weight"], **frozen, **weights}, folder / "checkpoint")
    return folder


def _cut_llama(source: Path, target: Path) -> None:
    (target / "llm").mkdir(parents=True, exist_ok=True)
    for name in ("args.json", "prompts.json", *(f"llm/{file.name}" for file in (source / "llm").iterdir())):
        (target / name).write_bytes((source / name).read_bytes())
    state = torch.load(source / "checkpoint", map_location="cpu", weights_only=True)
    embedding_VE = state["word_embeddings"].double()
    prototypes_UE = (state.pop(_MAPPING).double() @ embedding_VE).float()
    trained = {name: tensor for name, tensor in state.items() if not name.startswith(("llm_model.", "word_embeddings"))}
    np.savez_compressed(target / "weights.npz", prototypes_UE=prototypes_UE.numpy(), **_as_numpy(trained))
    numbers = dict(np.load(source / "golden.npz"))
    numbers[f"grad.{_MAPPING}"] = numbers[f"grad.{_MAPPING}"][_ROWS]
    numbers["mapping_rows"] = np.arange(1000)[_ROWS]
    np.savez_compressed(target / "golden.npz", **numbers)


def _as_numpy(tensors: dict[str, torch.Tensor]) -> dict[str, NDArray[np.float32]]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _cut_custom(source: Path, target: Path) -> None:
    text = gzip.decompress((source / "custom_12194.csv.gz").read_bytes()).decode()
    rows = [line.split(",") for line in text.splitlines()]
    kept = [rows[0].index(name) for name in ("date", *_COLUMNS)]
    lines = (",".join(row[place] for place in kept) for row in rows)
    (target / "custom_12194.csv.xz").write_bytes(lzma.compress("\n".join(lines).encode() + b"\n"))
    whole, channels = np.load(source / "custom_12194_windows.npz"), list(_COLUMNS.values())
    cut = {"channel_order_expected": whole["channel_order_expected"][channels]}
    for split in ("train", "val", "test"):
        part = {key.rpartition(".")[2]: whole[key] for key in whole if key.startswith(f"M.{split}.")}
        samples = np.isin(part["feature"], channels)
        window, feature = part["indices"][samples] % part["tot_len"], part["feature"][samples]
        part |= {name: part[name][samples] for name in ("seq_x", "seq_y_tail")}
        part |= {name: part[name][channels] for name in ("scaler_mean", "scaler_scale")}
        part["feature"] = np.searchsorted(channels, feature)
        part["indices"] = part["feature"] * part["tot_len"] + window
        part |= {"enc_in": np.int64(len(channels)), "len": part["tot_len"] * len(channels)}
        cut |= {f"M.{split}.{name}": values for name, values in part.items()}
    np.savez_compressed(target / "custom_12194_windows.npz", **cut)


if __name__ == "__main__":
    _cut_llama(Path(sys.argv[1]) / "llama", HERE / "llama")
    _cut_custom(Path(sys.argv[1]), HERE)
