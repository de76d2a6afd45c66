"""Batches made the short way are those of the plain way: window by window, whole prompts, the tokeniser's own call."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tests.model.llm.test_backbone import histories
from timellm_cli.config import PromptConfig, WindowConfig
from timellm_cli.data.windows import WindowDataset
from timellm_cli.geometry import Span
from timellm_cli.model.prompt import PromptText, WindowStatistics
from timellm_cli.model.prompt_tokens import Collate, PromptEncoder, Tokenise, load_tokenizer, window_statistics
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


def plain_prompt(text: PromptText, tokenizer: Any, prompts: list[str], multiple: int, beside: int) -> tuple[Any, ...]:
    """Head, ids and mask from whole prompts, row by row."""
    head_ids = tokenizer([text.head], add_special_tokens=False)["input_ids"][0] if text.head else []
    sequences = tokenizer(prompts)["input_ids"]
    specials = next((at for at in range(3) if sequences[0][at : at + 1] == head_ids[:1]), 0)
    head = sequences[0][:specials] + head_ids
    if not all(sequence[: len(head)] == head for sequence in sequences):
        head = []
    longest = max(map(len, sequences))
    longest += -(longest + beside) % multiple
    ids = [[0] * (longest - len(row)) + row[len(head) :] for row in sequences]
    mask = [[0] * (longest - len(row)) + [1] * (len(row) - len(head)) for row in sequences]
    return tuple(head), ids, mask


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
    found = PromptEncoder(text, tokenizer, 10**6, multiple_of=8, beside=3).encode_texts(prompts)
    wanted = plain_prompt(text, tokenizer, prompts, 8, 3)
    assert (found.head, found.ids_BK.tolist(), found.mask_BK.tolist()) == wanted
    assert found.ids_BK.dtype == found.mask_BK.dtype == torch.int64


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_head_is_left_out_where_its_tokens_stand_apart_and_the_library_asked_where_it_does_the_same(
    name: str,
) -> None:
    make, has_seam = TOKENIZERS[name]
    tokenise = Tokenise(text_of(), make())
    assert (tokenise._seam is not None) == has_seam
    assert tokenise._asks_library == ("Python" not in name)


def test_a_number_right_behind_the_head_may_join_it() -> None:
    text = text_of(template="value{min}")
    assert Tokenise(text, letters([("e", "-")]))._seam is None
    assert Tokenise(text, letters([("e", "7")]))._seam is None
    assert Tokenise(text, letters([("l", "u")]))._seam is not None


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_with_real_tokenisers_the_tails_alone_are_tokenised(shared_dir: Path, name: str) -> None:
    text, tokenizer = text_of(), load_tokenizer(shared_dir / "golden" / name / "llm")
    encoder = PromptEncoder(text, tokenizer, 10**6)
    assert encoder._tokenise._seam and encoder._tokenise._asks_library
    statistics = window_statistics(normalise(histories(40))[0], text.top_lags)
    found = encoder.encode(histories(40))
    wanted = plain_prompt(text, tokenizer, [text.render(sample) for sample in statistics], 1, 0)
    assert (found.head, found.ids_BK.tolist(), found.mask_BK.tolist()) == wanted


def test_an_encoder_goes_to_a_loaders_process(tiny_llm: Path) -> None:
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


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), stride=st.integers(1, 9), channels=st.integers(1, 3))
def test_a_batch_fetched_at_once_is_the_one_put_together(
    tiny_llm: Path, data: st.DataObject, stride: int, channels: int
) -> None:
    values_CN = histories(3).repeat(1, 3)
    samples = WindowDataset(values_CN, Span(7, 140), channels, WINDOW, stride)
    chosen = data.draw(st.lists(st.integers(0, len(samples) - 1), min_size=1, max_size=9))
    collate = Collate(PromptEncoder(text_of(), load_tokenizer(tiny_llm), 10**6))
    at_once, one_by_one = collate(samples.__getitems__(chosen)), collate([samples[sample] for sample in chosen])
    for name in ("history_BT", "future_BH", "channel_B", "start_B"):
        found, wanted = getattr(at_once, name), getattr(one_by_one, name)
        assert found.dtype == wanted.dtype and torch.equal(found, wanted) and found.is_contiguous()
    assert torch.equal(at_once.prompt.ids_BK, one_by_one.prompt.ids_BK)


@pytest.mark.parametrize("wrong", [-1, 3 * (140 - 7 - 60 + 1)])
def test_a_batch_with_a_sample_that_is_not_there_is_an_index_error(wrong: int) -> None:
    samples = WindowDataset(histories(3).repeat(1, 3), Span(7, 140), 3, WINDOW, 1)
    assert len(samples) == 3 * (140 - 7 - 60 + 1)
    with pytest.raises(IndexError, match=str(wrong)):
        samples.__getitems__([0, wrong])
