"""The random generators of a process, captured and put back, in a form that a checkpoint may hold."""

import random
from typing import Any

import numpy as np
import torch


def capture_random_state() -> dict[str, Any]:
    """The states of python's, numpy's and torch's global generators, on CPU and GPU."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": {
            "kind": str(kind),
            "keys": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "gauss": float(gauss),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what `capture_random_state` gave; the GPU's only where there is one and there was one."""
    random.setstate(state["python"])
    generator = state["numpy"]
    keys = generator["keys"].numpy().astype(np.uint32)
    np.random.set_state((generator["kind"], keys, generator["position"], generator["has_gauss"], generator["gauss"]))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
