"""Shows that the plain path and ours compute the same: forecasts and gradients on shared weights, in float32.

    python benchmarks/same_model.py --tokenizer FOLDER [--device cuda] [--shape toy] [--layers 4]
    python benchmarks/same_model.py --llm FOLDER [--device cuda]

With --llm, our decoder is compared with transformers on all layers of the LLM in a folder.

Prints the relative difference of each, and exits with 1 where one is above a thousandth.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from gpu_profiles import make_ett
from plain import PlainTimeLLM
from random_llm import SHAPES, make_folder, standing_in_for_files
from runs import Job, Workplace, make_encoder
from torch import Tensor, nn

from timellm_cli.config import Config
from timellm_cli.data.batch import PromptTokens
from timellm_cli.data.windows import load_data
from timellm_cli.model.llm.decoder import Decoder
from timellm_cli.model.load import load_llm, load_model
from timellm_cli.model.time_llm import compact_mapping

TOLERANCE = 1e-3


def compare(place: Workplace, job: Job) -> dict[str, float]:
    """Norm of the difference over the norm, by name."""
    config = place.config(job).with_values({"model.dropout": 0.0})
    samples = load_data(config).training_windows()
    llm = place.llm(job.shape)
    with standing_in_for_files(llm):
        runner = load_model(config, place.device)
    ours = runner.model
    plain = PlainTimeLLM(config, llm.build_transformers(config.llm, config.train.precision)).to(place.device)
    _share_weights(plain, ours, llm.read("embed_tokens.weight"), llm.factor_EE())

    batch = samples.batch(range(0, len(samples), len(samples) // job.batch)[: job.batch])
    prompt, whole = runner.encoder.encode(batch.history_BT), make_encoder(config).encode(batch.history_BT)
    ours.llm.prepare(prompt)
    forecasts = [
        model(batch.history_BT.to(place.device), prompt.to(place.device))
        for model, prompt in ((plain, whole.joined()), (ours, prompt))
    ]
    for forecast_BH in forecasts:
        (forecast_BH - batch.future_BH.to(place.device)).square().mean().backward()
    found = {"forecast": _difference(*forecasts)}
    theirs = dict(plain.named_parameters())
    for name, weight in ours.named_parameters():
        # The gradient of the key's bias is zero by mathematics, so only noise is left to compare.
        if name in theirs and weight.grad is not None and name != "reprogramming.key.bias":
            found[f"gradient of {name}"] = _difference(theirs[name].grad, weight.grad)
    return found


def compare_llm(folder: Path, device: torch.device) -> dict[str, float]:
    """Hidden states and gradients at the patches, on a padded and an unpadded prompt, through all layers."""
    found = []
    for implementation in ("auto", "transformers"):
        llm_config = {"name": str(folder), "layers": "all", "quantization": "none", "implementation": implementation}
        config = Config.model_validate({"llm": llm_config, "train": {"precision": "fp32"}})
        llm = load_llm(config, folder, device, None)
        if implementation == "auto" and not isinstance(llm, Decoder):
            sys.exit(f"our decoder does not run the LLM in '{folder}'")
        ids = torch.arange(60) * 7919 % len(llm.embedding_VE)
        mask_BK = torch.ones(2, 24, dtype=torch.int64)
        mask_BK[1, :5] = 0
        prompt = PromptTokens(ids[8:56].view(2, 24), mask_BK, tuple(ids[:8].tolist()))
        llm.set_prefix(prompt.prefix)
        llm.prepare(prompt)
        table = llm.embedding_VE[ids[:24].to(llm.embedding_VE.device)].detach()
        tokens_BPE = table.view(2, 12, -1).to(device, torch.float32).requires_grad_()
        hidden_BPE = llm(prompt.to(device), tokens_BPE)
        weights_BPE = torch.randn(hidden_BPE.shape, generator=torch.Generator().manual_seed(1)).to(device)
        (grad_BPE,) = torch.autograd.grad((hidden_BPE * weights_BPE).sum(), tokens_BPE)
        found.append((hidden_BPE.detach(), grad_BPE))
        del llm
    (ours, our_grad), (theirs, their_grad) = found
    return {"hidden states": _difference(theirs, ours), "gradient of the patches": _difference(their_grad, our_grad)}


def _share_weights(plain: PlainTimeLLM, ours: nn.Module, embedding_VE: Tensor, factor_EE: Tensor) -> None:
    plain.load_state_dict(ours.state_dict(), strict=False)
    mapping = plain.mapping
    compact_UE = compact_mapping(mapping.weight.detach().cpu(), embedding_VE.float(), factor_EE)
    with torch.no_grad():
        ours.prototypes.weight_UE.copy_(compact_UE)
        ours.prototypes.bias_U.copy_(mapping.bias)


def _difference(expected: Tensor, found: Tensor) -> float:
    return float((found - expected).detach().norm() / expected.detach().norm())


def compare_shape(arguments: argparse.Namespace) -> dict[str, float]:
    """An LLM of a known shape with random weights."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_folder(folder / arguments.shape, arguments.shape, arguments.tokenizer)
        make_ett(folder / "ett.csv", 69_680, 15)
        place = Workplace(folder, torch.device(arguments.device), "fp32")
        job = Job("same", "ours", arguments.shape, arguments.layers, batch=4, quantization="none")
        return compare(place, job)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--llm", type=Path, help="folder of an LLM that our decoder runs")
    source.add_argument("--tokenizer", type=Path, help="folder with tokenizer.json, ids below 49,152")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="toy")
    parser.add_argument("--layers", type=int, default=4)
    arguments = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False
    device = torch.device(arguments.device)
    found = compare_llm(arguments.llm, device) if arguments.llm else compare_shape(arguments)
    for name, difference in found.items():
        print(f"{name:45} {difference:.1e}")
    sys.exit(max(found.values()) > TOLERANCE)


if __name__ == "__main__":
    main()
