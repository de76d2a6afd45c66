"""Right files with a few bytes changed, and bytes of any kind: a reader answers with its own errors or not at all."""

import json
from datetime import datetime
from functools import cache

import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.seeds import LLAMA, seeds
from tests.hostile.targets import TARGETS
from timellm_cli.config import FIELDS
from timellm_cli.config_fields import nest

cached_seeds = cache(seeds)
ANY_VALUE = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.text(max_size=20), st.datetimes(), st.lists(st.text(max_size=5)),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2), st.integers(min_value=10**30),
    st.sampled_from(["none", "auto", "all", "1e400", "9" * 5000, "\0", "~x/y", "{", "nan", "6.GiB", "\u0661"]),
)  # fmt: skip
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@st.composite
def spoilt(draw: st.DrawFn, target: str) -> bytes:
    """A seed with up to four pieces replaced, taken away or put in."""
    content = draw(st.sampled_from(cached_seeds(target)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = draw(st.integers(start, min(len(content), start + 40)))
        content = content[:start] + draw(st.binary(max_size=20)) + content[stop:]
    return content


@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@given(content=st.one_of(spoilt("csv"), st.binary(max_size=500), st.text(max_size=300).map(str.encode)))
def test_no_csv_breaks_its_reader(content: bytes) -> None:
    TARGETS["csv"](content)


@settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
@given(content=st.one_of(spoilt("profile"), st.text(max_size=300).map(str.encode)))
def test_no_configuration_breaks_its_reader(content: bytes) -> None:
    TARGETS["profile"](content)


@settings(max_examples=100, deadline=None, suppress_health_check=QUIET)
@given(content=st.one_of(spoilt("checkpoint"), st.binary(max_size=500)))
def test_no_checkpoint_breaks_its_reader(content: bytes) -> None:
    TARGETS["checkpoint"](content)


@settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
@given(content=st.one_of(spoilt("metrics"), st.binary(max_size=500)))
def test_no_metrics_break_their_reader(content: bytes) -> None:
    TARGETS["metrics"](content)


@settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
@given(values=st.dictionaries(st.sampled_from([*FIELDS]), ANY_VALUE, max_size=4))
def test_no_value_of_a_configuration_breaks_its_reader(values: dict[str, object]) -> None:
    TARGETS["profile"](tomli_w.dumps(nest(values)).encode("utf-8", errors="surrogatepass"))


@settings(max_examples=100, deadline=None, suppress_health_check=QUIET)
@given(content=st.one_of(spoilt("config"), st.binary(max_size=300)))
def test_no_config_of_an_llm_breaks_its_reader(content: bytes) -> None:
    TARGETS["config"](content)


@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@given(key=st.sampled_from(sorted(LLAMA)), value=ANY_VALUE.filter(lambda value: not isinstance(value, datetime)))
def test_no_value_in_the_config_of_an_llm_breaks_its_reader(key: str, value: object) -> None:
    TARGETS["config"](json.dumps({**LLAMA, key: value}).encode())


@settings(max_examples=30, deadline=None, suppress_health_check=QUIET)
@given(content=st.one_of(spoilt("tokenizer"), st.binary(max_size=300)))
def test_no_tokenizer_breaks_its_reader(content: bytes) -> None:
    TARGETS["tokenizer"](content)
