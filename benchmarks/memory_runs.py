"""The runs of the memory grid, in groups that share a process.

Formulas were derived and calibrated with the groups of `FIRST`; those of `FRESH` were measured afterwards, with other
settings and two more LLMs, to report on.
"""

from dataclasses import replace
from typing import Any

from variants import Job

RECOMPUTE = {"hardware.recompute": "on"}
EAGER = {"hardware.capture": "off"}
TRANSFORMERS = {"llm.implementation": "transformers", "hardware.capture": "off"}


def _job(shape: str, layers: int, batch: int, quantization: str = "nf4", seq_len: int = 512, **settings: Any) -> Job:
    """`settings` are keys of the configuration with an underscore for the dot."""
    keys = {key.replace("_", ".", 1): value for key, value in settings.items()}
    return Job("grid", "ours", shape, layers, batch, quantization, seq_len, settings=keys)


def _with(settings: dict[str, Any], *jobs: Job) -> list[Job]:
    return [replace(job, settings={**job.settings, **settings}) for job in jobs]


def _qwen_3b() -> list[Job]:
    name = "qwen2.5-3b"
    return [
        _job(name, 6, 8),
        _job(name, 6, 32),
        _job(name, 6, 128),
        *_with(EAGER, _job(name, 6, 8)),
        *_with(RECOMPUTE, _job(name, 6, 32), _job(name, 6, 256), _job(name, 36, 32)),
        *_with(TRANSFORMERS, _job(name, 6, 8)),
        _job(name, 36, 8),
        _job(name, 36, 32),
        _job(name, 12, 16, seq_len=96),
        _job(name, 12, 16, seq_len=1024),
        _job(name, 12, 16, model_d_ff=128),
        _job(name, 12, 16, "int8"),
        _job(name, 12, 16, llm_double_quant=False),
        _job(name, 12, 16, model_dropout=0.0, model_num_prototypes=100),
        *_with(EAGER, _job(name, 12, 16, train_optimizer="adamw8bit"), _job(name, 36, 8)),
        _job(name, 36, 4, "none"),
    ]


def _qwen_small() -> list[Job]:
    tiny, small = "qwen2.5-0.5b", "qwen2.5-1.5b"
    return [
        _job(tiny, 6, 8, "none"),
        _job(tiny, 24, 32, "none"),
        _job(tiny, 12, 128),
        _job(tiny, 24, 8, "int8"),
        *_with(RECOMPUTE, _job(tiny, 24, 64, "none")),
        *_with(EAGER, _job(tiny, 24, 32, "none", seq_len=336)),
        *_with(TRANSFORMERS, _job(tiny, 8, 16, "none"), _job(tiny, 24, 16)),
        _job(small, 28, 16),
        _job(small, 14, 32, "none"),
        _job(small, 6, 64, seq_len=720, model_d_ff=64),
        _job(small, 28, 16, train_optimizer="adam8bit"),
        *_with(EAGER, _job(small, 28, 16, "int8")),
        *_with(RECOMPUTE, _job(small, 28, 64)),
        *_with(TRANSFORMERS, _job(small, 14, 8), _job(small, 6, 8, "int8")),
    ]


def _llama() -> list[Job]:
    name, settings = "llama-3-8b", {"seq_len": 256}
    return [
        _job(name, 8, 32),
        _job(name, 8, 8, "int8"),
        _job(name, 4, 8, "none", **settings),
        *_with(EAGER, _job(name, 8, 16, **settings)),
        *_with(TRANSFORMERS, _job(name, 6, 8)),
        _job(name, 32, 2, **settings),
        _job(name, 32, 16, **settings),
        *_with(RECOMPUTE, _job(name, 32, 48, **settings)),
        _job(name, 32, 8, "int8", **settings),
    ]


def _small() -> list[Job]:
    name, other = "smollm2-135m", "gpt2"
    return [
        _job(name, 6, 32, "none"),
        _job(name, 30, 128, "none"),
        _job(name, 30, 16, "none"),
        _job(name, 30, 32),
        _job(name, 2, 8, "none", train_precision="fp32"),
        _job(name, 30, 256, "none", seq_len=96),
        *_with(RECOMPUTE, _job(name, 30, 256, "none")),
        *_with(EAGER, _job(name, 30, 16, "none", train_precision="fp16")),
        *_with(TRANSFORMERS, _job(name, 6, 64, "none")),
        *_with(
            TRANSFORMERS,
            _job(other, 6, 32, "none"),
            _job(other, 6, 8, "none", model_d_ff=128),
            _job(other, 12, 64, "none"),
            _job(other, 12, 16, "none", train_precision="fp32"),
            _job(other, 12, 16, "none", seq_len=256),
        ),
        *_with({"llm.name": "none", "hardware.capture": "off"}, _job(name, 1, 32, "none"), _job(name, 1, 256, "none")),
    ]


def _expandable() -> list[Job]:
    """Measured with expandable segments, which the project uses since; the other groups of `FIRST` without."""
    name = "qwen2.5-3b"
    return [
        _job(name, 6, 8),
        *_with(TRANSFORMERS, _job(name, 6, 8)),
        *_with(EAGER, _job(name, 12, 16)),
        *_with(RECOMPUTE, _job(name, 36, 32)),
        _job(name, 36, 8),
    ]


FIRST = {"qwen-3b": _qwen_3b, "llama": _llama, "qwen-small": _qwen_small, "small": _small, "expandable": _expandable}


def _fresh_large() -> list[Job]:
    three, seven, eight = "qwen2.5-3b", "qwen2.5-7b", "llama-3-8b"
    return [
        _job(three, 6, 16),
        _job(three, 36, 16),
        _job(three, 36, 26),
        _job(three, 36, 40),
        _job(three, 18, 24, seq_len=336),
        _job(three, 8, 64, model_d_ff=64, model_dropout=0.2),
        _job(three, 36, 8, "int8"),
        *_with(RECOMPUTE, _job(three, 36, 24, seq_len=96), _job(three, 36, 128)),
        *_with(EAGER, _job(three, 24, 12), _job(three, 6, 16, "none", train_accumulate=4)),
        _job(seven, 28, 2, seq_len=256),
        _job(seven, 28, 4, seq_len=336),
        _job(seven, 10, 16),
        _job(seven, 28, 4, "int8"),
        *_with(RECOMPUTE, _job(seven, 28, 16)),
        _job(eight, 16, 12),
        _job(eight, 32, 4),
        _job(eight, 12, 6, "none", seq_len=336),
        *_with(RECOMPUTE, _job(eight, 32, 32, seq_len=96)),
        *_with(EAGER, _job(eight, 32, 8)),
    ]


def _fresh_small() -> list[Job]:
    half, one, more, tiny = "qwen2.5-0.5b", "llama-3.2-1b", "qwen2.5-1.5b", "smollm2-135m"
    return [
        _job(half, 24, 16, "none"),
        _job(half, 24, 64),
        _job(half, 12, 48, "int8", seq_len=336),
        *_with(RECOMPUTE, _job(half, 24, 128, "none", seq_len=96)),
        *_with(EAGER, _job(half, 24, 8, "none")),
        _job(more, 28, 8),
        _job(more, 28, 32, "none"),
        _job(more, 28, 12, "int8"),
        *_with(RECOMPUTE, _job(more, 20, 40, seq_len=720)),
        *_with(EAGER, _job(more, 10, 24, model_d_ff=128, train_optimizer="adam8bit")),
        _job(one, 16, 32, "none"),
        _job(one, 8, 16, seq_len=1024),
        *_with(RECOMPUTE, _job(one, 16, 64)),
        _job(tiny, 30, 64, "none"),
        _job(tiny, 12, 128, "none", seq_len=336),
        _job(tiny, 4, 16, "none", train_precision="fp32"),
        *_with(RECOMPUTE, _job(tiny, 30, 64, "none", model_d_ff=64)),
    ]


def _fresh_transformers() -> list[Job]:
    name = "smollm2-135m"
    return [
        *_with(
            TRANSFORMERS,
            _job("qwen2.5-3b", 12, 8),
            _job("gpt2", 12, 32, "none"),
            _job("gpt2", 6, 64, "none", seq_len=336),
            _job("gpt2", 12, 8, "none", train_precision="fp32"),
            _job("qwen2.5-0.5b", 24, 16, "none"),
            _job("llama-3.2-1b", 16, 8),
            _job("qwen2.5-1.5b", 8, 8, "int8"),
            _job(name, 30, 32, "none"),
        ),
        *_with({"llm.name": "none", "hardware.capture": "off"}, _job(name, 1, 64, "none"), _job(name, 1, 512, "none")),
    ]


def _default_allocator() -> list[Job]:
    return [
        _job("qwen2.5-3b", 6, 16),
        _job("qwen2.5-3b", 36, 16),
        _job("llama-3-8b", 32, 4),
        *_with(EAGER, _job("qwen2.5-0.5b", 24, 16, "none")),
        *_with(TRANSFORMERS, _job("smollm2-135m", 30, 32, "none")),
    ]


FRESH = {
    "fresh-large": _fresh_large, "fresh-small": _fresh_small, "fresh-transformers": _fresh_transformers,
    "default-allocator": _default_allocator,
}  # fmt: skip
