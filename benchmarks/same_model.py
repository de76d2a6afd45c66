"""Shows that the plain path and ours compute the same: forecasts and gradients on shared weights, in float32.

    python benchmarks/same_model.py --tokenizer FOLDER [--device cuda] [--shape toy] [--layers 4]

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
from runs import Workplace, make_encoder
from torch import Tensor, nn
from variants import Job

from timellm_cli.data.windows import load_data
from timellm_cli.model.load import load_model
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


def _share_weights(plain: PlainTimeLLM, ours: nn.Module, embedding_VE: Tensor, factor_EE: Tensor) -> None:
    plain.load_state_dict(ours.state_dict(), strict=False)
    mapping = plain.mapping
    compact_UE = compact_mapping(mapping.weight.detach().cpu(), embedding_VE.float(), factor_EE)
    with torch.no_grad():
        ours.prototypes.weight_UE.copy_(compact_UE)
        ours.prototypes.bias_U.copy_(mapping.bias)


def _difference(expected: Tensor, found: Tensor) -> float:
    return float((found - expected).detach().norm() / expected.detach().norm())


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json, ids below 49,152")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="toy")
    parser.add_argument("--layers", type=int, default=4)
    arguments = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_folder(folder / arguments.shape, arguments.shape, arguments.tokenizer)
        make_ett(folder / "ett.csv", 69_680, 15)
        place = Workplace(folder, torch.device(arguments.device), "fp32")
        job = Job("same", "ours", arguments.shape, arguments.layers, batch=4, quantization="none")
        found = compare(place, job)
    for name, difference in found.items():
        print(f"{name:45} {difference:.1e}")
    sys.exit(max(found.values()) > TOLERANCE)


if __name__ == "__main__":
    main()
