"""The vector of each line of text: what a frozen LLM makes of it, or columns of 0 and 1 for the facts it states.

The LLM reads each distinct line once, ever: vectors are kept in the cache by the LLM's fingerprint and the line.
"""

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from timellm_cli.config import Config
from timellm_cli.data.batch import PromptTokens
from timellm_cli.data.day_lines import Line
from timellm_cli.errors import ModelError
from timellm_cli.llm_files import find_llm, fingerprint_llm, stamp_llm
from timellm_cli.model.llm.decoder import Decoder
from timellm_cli.model.llm.prepared import PreparedFiles
from timellm_cli.model.llm.transformers_llm import TransformersLLM
from timellm_cli.model.load import load_llm
from timellm_cli.model.prompt_tokens import load_tokenizer
from timellm_cli.model.runner import free_gpu_memory

OnNote = Callable[[str], None]
_AT_ONCE = 32


def vectors_of_facts(lines: Sequence[Line], facts: Sequence[str]) -> Tensor:
    """L x E: 1 where a line states the fact, else 0. Facts that are not listed are left out."""
    return torch.tensor([[float(fact in line.facts) for fact in facts] for line in lines]).view(len(lines), len(facts))


def facts_of(lines: Sequence[Line], counts_L: Sequence[int]) -> tuple[str, ...]:
    """The facts that training lines state, sorted."""
    return tuple(sorted({fact for line, count in zip(lines, counts_L, strict=True) if count for fact in line.facts}))


def mean_of_lines(vectors_LE: Tensor, counts_L: Sequence[int]) -> Tensor:
    """The mean vector of the training days, E, in float64; `counts_L` says how many of these each line is of."""
    share_L = torch.tensor(counts_L, dtype=torch.float64) / max(sum(counts_L), 1)
    return share_L @ vectors_LE.double()


def read_lines(
    lines: Sequence[Line], config: Config, device: torch.device, on_note: OnNote = lambda _: None
) -> tuple[Tensor, str, int]:
    """L x E: the mean over a line's tokens of the LLM's last hidden states; its fingerprint; how many lines were new.

    Raises ModelError where the LLM is absent or broken.
    """
    reading = _reading_config(config, device)
    folder = find_llm(reading.llm.name)
    if folder is None:
        raise ModelError(
            f"LLM '{reading.llm.name}', which reads the text of the days, is not on this computer",
            f"timellm fetch {reading.llm.name}, or another --text-llm",
        )
    seed = reading.train.seed if reading.llm.weights == "random" else None
    fingerprint = fingerprint_llm(folder, seed)
    prepared = PreparedFiles(fingerprint, stamp_llm(folder), on_note) if config.hardware.prepared else None
    name = f"lines-{reading.llm.layers}-{reading.train.precision}"
    known = _known(prepared, name)
    texts = list(dict.fromkeys(line.text for line in lines))
    if new := [text for text in texts if _key(text) not in known]:
        on_note(f"{reading.llm.name} reads {len(new):,} lines of text, once")
        with torch.random.fork_rng(devices=[]):  # what is drawn next must not depend on what the cache has
            llm = load_llm(reading, folder, device, None, on_note)
        known |= dict(zip(map(_key, new), _pooled(new, llm, folder, device), strict=True))
        del llm
        free_gpu_memory()
        if prepared:
            keys = torch.tensor(list(known), dtype=torch.int64)
            prepared.write(name, {"keys": keys, "vectors": torch.stack(list(known.values()))})
    return torch.stack([known[_key(line.text)] for line in lines]), fingerprint, len(new)


def _reading_config(config: Config, device: torch.device) -> Config:
    """The configuration under which the LLM of the text is loaded: whole numbers, as little of it as is read."""
    ahead = config.ahead
    values = {"llm.name": config.text_llm, "llm.weights": ahead.llm_weights, "llm.layers": ahead.layers}
    values |= {"llm.quantization": "none", "train.precision": "fp32" if device.type == "cpu" else "bf16"}
    return config.with_values(values)


def _known(prepared: PreparedFiles | None, name: str) -> dict[int, Tensor]:
    """The vectors of lines that were read before, by the lines' keys."""
    found = (prepared.read(name) if prepared else None) or {}
    keys, vectors = found.get("keys"), found.get("vectors")
    if keys is None or vectors is None or vectors.ndim != 2 or len(keys) != len(vectors):
        return {}
    return dict(zip(keys.tolist(), vectors.clone(), strict=True))


def _key(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")


@torch.no_grad()
def _pooled(texts: Sequence[str], llm: Decoder | TransformersLLM, folder: object, device: torch.device) -> list[Tensor]:
    """The vector of each text, E, on the CPU. Texts of one length are read together, so that none is padded."""
    tokenizer = load_tokenizer(folder)  # type: ignore[arg-type]
    ids = [list(tokenizer(text)["input_ids"]) for text in texts]
    longest = max(map(len, ids))
    if longest > llm.max_positions:
        raise ModelError(
            f"a line of text has {longest:,} tokens, but the LLM that reads it has {llm.max_positions:,} positions",
            "say it shorter",
        )
    found: dict[int, Tensor] = {}
    by_length: dict[int, list[int]] = {}
    for place, tokens in enumerate(ids):
        by_length.setdefault(len(tokens), []).append(place)
    for places in by_length.values():
        for start in range(0, len(places), _AT_ONCE):
            part = places[start : start + _AT_ONCE]
            hidden_BPE = _read(llm, torch.tensor([ids[place] for place in part]), device)
            found |= dict(zip(part, hidden_BPE.mean(dim=1).float().cpu(), strict=True))
    return [found[place] for place in range(len(texts))]


def _read(llm: Decoder | TransformersLLM, ids_BP: Tensor, device: torch.device) -> Tensor:
    """The last hidden states at these tokens, B x P x E."""
    empty_B0 = torch.zeros(len(ids_BP), 0, dtype=torch.int64)
    if isinstance(llm, Decoder):
        llm.embedding.prepare(ids_BP)
        tokens_BPE = llm.embedding(ids_BP.to(device))
    else:
        tokens_BPE = llm.llm.get_input_embeddings()(ids_BP.to(device))
    hidden_BPE: Tensor = llm(PromptTokens(empty_B0.to(device), empty_B0.to(device)), tokens_BPE)
    return hidden_BPE
