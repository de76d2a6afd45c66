"""Batches made the short way are those of the plain way: window by window, whole prompts, the tokeniser's own call."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tests.untrained import histories
from timellm_cli.config import PromptConfig, WindowConfig
from timellm_cli.errors import ModelError
from timellm_cli.model.prompt import PromptText, WindowStatistics
from timellm_cli.model.prompt_tokens import PromptEncoder, PromptTokenizer, load_tokenizer, window_statistics
from timellm_cli.model.time_llm import normalise

WINDOW = WindowConfig(seq_len=48, pred_len=12)
LETTERS = sorted({*"abcdefghijklmnopqrstuvwxyzDTI0123456789 .,:;|<>_-[]▁?"})


def text_of(**prompt: object) -> PromptText:
    return PromptText(PromptConfig(**prompt), WINDOW, "Counts of people.")


def letters(merges: list[tuple[str, str]], **parts: Any) -> PreTrainedTokenizerFast:
    """A tokeniser of letters and of what is merged of them."""
    words = [*LETTERS, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, merges, unk_token="?"))
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in ("<s>", "</s>")])
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def marks(template: str) -> processors.TemplateProcessing:
    known = [("<s>", len(LETTERS)), ("</s>", len(LETTERS) + 1)]
    return processors.TemplateProcessing(single=template, special_tokens=known)


class InPython:
    """A tokeniser without a fast library under it, and one that does more than the library under it would."""

    def __init__(self, inner: Any, shows_library: bool) -> None:
        self._inner = inner
        if shows_library:
            self.backend_tokenizer = inner.backend_tokenizer

    def __call__(self, texts: list[str], add_special_tokens: bool = True) -> Any:
        return self._inner([text.replace(" ", "_") for text in texts], add_special_tokens=add_special_tokens)


NUMBER_JOINS_HEAD = [("e", " "), ("e ", "-")]
DUMMY_SPACE = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
TOKENIZERS: dict[str, tuple[Callable[[], Any], bool]] = {
    "letters": (lambda: letters([]), True),
    "begin": (lambda: letters([], post_processor=marks("<s> $A")), True),
    "begin and end": (lambda: letters([("a", "x")], post_processor=marks("<s> $A </s>")), True),
    "joins the end of the head with a minus": (lambda: letters([("e", "-")]), True),
    "joins the end of the head with a space": (lambda: letters(NUMBER_JOINS_HEAD), False),
    "puts a space before every text": (lambda: letters([], normalizer=DUMMY_SPACE), False),
    "in words": (lambda: letters([("e", " ")], pre_tokenizer=pre_tokenizers.Whitespace()), True),
    "in Python": (lambda: InPython(letters([]), shows_library=False), True),
    "in Python, over a library": (lambda: InPython(letters([]), shows_library=True), True),
}


def plain_tokens(tokenizer: Any, prompts: list[str], multiple: int, patches: int) -> tuple[Any, Any]:
    """Ids and mask of whole prompts, row by row, by the tokeniser's own call."""
    sequences = tokenizer(prompts)["input_ids"]
    longest = max(map(len, sequences))
    longest += -(longest + patches) % multiple
    ids = [[0] * (longest - len(row)) + row for row in sequences]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in sequences]
    return ids, mask


def joined(encoder: PromptEncoder, prompts: list[str]) -> tuple[Any, Any]:
    """The encoder's whole prompts, padding moved before the prefix."""
    found = encoder.encode_texts(prompts)
    assert found.ids_BK.dtype == found.mask_BK.dtype == torch.int64
    prefix, ids, mask = list(encoder.prefix), [], []
    for ids_K, mask_K in zip(found.ids_BK.tolist(), found.mask_BK.tolist(), strict=True):
        padding = mask_K.count(0)
        ids.append([0] * padding + prefix + ids_K[padding:])
        mask.append([0] * padding + [1] * (len(prefix) + len(ids_K) - padding))
    return ids, mask


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(
    "template", [{}, {"template": "{min}{max} of {seq_len}"}, {"template": "value{median} {lags}"}]
)
@settings(max_examples=15, deadline=None)
@given(
    values=st.lists(st.floats(-99, 99, width=32), min_size=1, max_size=5),
    lag=st.integers(0, 47),
    decimals=st.sampled_from([0, 3, "all"]),
)
def test_tokens_are_those_of_whole_prompts(
    name: str, template: dict[str, str], values: list[float], lag: int, decimals: Any
) -> None:
    text, tokenizer = text_of(decimals=decimals, **template), TOKENIZERS[name][0]()
    prompts = [text.render(WindowStatistics(value, -value, value / 2, value > 0, (0, lag))) for value in values]
    for keep_prefix in (True, False):
        encoder = PromptEncoder(text, tokenizer, 10**6, patches=3, multiple_of=8, keep_prefix=keep_prefix)
        assert joined(encoder, prompts) == plain_tokens(tokenizer, prompts, 8, 3)
        assert keep_prefix or encoder.prefix == ()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_prefix_is_as_much_of_the_constant_text_as_all_prompts_share(name: str) -> None:
    text, tokenizer = text_of(), TOKENIZERS[name][0]()
    constant = tokenizer([text.prefix], add_special_tokens=False)["input_ids"][0]
    prefix = PromptEncoder(text, tokenizer, 10**6).prefix
    specials = len(prefix) - len(constant) if TOKENIZERS[name][1] and "minus" not in name else None
    if specials is not None and "joins" not in name:
        assert list(prefix[specials:]) == constant
    else:
        assert len(constant) - 2 <= len(prefix) <= len(constant)


@pytest.mark.parametrize("joins", [("e", "-"), ("e", "7")])
def test_a_number_that_joins_the_constant_text_stays_out_of_the_prefix(joins: tuple[str, str]) -> None:
    """Else the prefix would be another one from batch to batch."""
    text = text_of(template="value{min}")
    encoder = PromptEncoder(text, letters([joins]), 10**6)
    whole = letters([joins])(["value"])["input_ids"][0]
    assert list(encoder.prefix) == whole[:-1]
    prompts = ["value-1.000", "value7.000", "value1.000"]
    assert joined(encoder, prompts) == plain_tokens(letters([joins]), prompts, 1, 0)


def test_a_prompt_that_begins_with_other_tokens_than_the_run_is_refused() -> None:
    tokenizer = PromptTokenizer(text_of(), letters([("e", " ")]))
    with pytest.raises(ModelError, match="begins a prompt with other tokens"):
        tokenizer.suffixes(["Another text"])


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_real_tokenisers_give_the_tokens_of_whole_prompts(shared_dir: Path, name: str) -> None:
    text, tokenizer = text_of(), load_tokenizer(shared_dir / "golden" / name / "llm")
    encoder = PromptEncoder(text, tokenizer, 10**6)
    assert len(encoder.prefix) > 20
    prompts = [text.render(sample) for sample in window_statistics(normalise(histories(40))[0], text.top_lags)]
    assert joined(encoder, prompts) == plain_tokens(tokenizer, prompts, 1, 0)


def test_an_encoder_can_be_sent_to_a_loaders_process(tiny_llm: Path) -> None:
    encoder = PromptEncoder(text_of(), load_tokenizer(tiny_llm), 10**6)
    sent = pickle.loads(pickle.dumps(encoder))
    assert torch.equal(sent.encode(histories(3)).ids_BK, encoder.encode(histories(3)).ids_BK)


def plain_statistics(scaled_T: Tensor, top_lags: int) -> tuple[list[float], bool, list[int]]:
    """Of one window, from their definitions; lags that mirror each other have one sum, and nine digits decide."""
    values = scaled_T.tolist()
    length = len(values)
    wide_T = scaled_T.double()
    sums = [float(wide_T @ wide_T.roll(min(lag, length - lag))) for lag in range(length)]
    unit = max(sums[0], 1e-300) * 1e-9
    lags = sorted(range(length), key=lambda lag: (-round(sums[lag] / unit), lag))[:top_lags]
    return [min(values), max(values), sorted(values)[(length - 1) // 2]], values[-1] > values[0], lags


@settings(max_examples=60, deadline=None)
@given(data=st.data(), length=st.integers(2, 70), period=st.integers(1, 12), samples=st.integers(1, 4))
def test_statistics_are_those_of_their_definitions_with_many_ties(
    data: st.DataObject, length: int, period: int, samples: int
) -> None:
    """Whole numbers in short periods, so that lags and middle values tie by the dozen."""
    rows = data.draw(
        st.lists(st.lists(st.integers(-3, 3), min_size=period, max_size=period), min_size=samples, max_size=samples)
    )
    values_BT = torch.tensor([(row * length)[:length] for row in rows], dtype=torch.float32)
    top_lags = data.draw(st.integers(1, length))
    for found, row_T in zip(window_statistics(values_BT, top_lags), values_BT, strict=True):
        wanted = plain_statistics(row_T, top_lags)
        assert ([found.min, found.max, found.median], found.upward, list(found.lags)) == wanted
