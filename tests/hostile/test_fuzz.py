"""Right files with a few bytes changed, and bytes of any kind: a reader answers with its own errors or not at all."""

from functools import cache

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.seeds import seeds
from tests.hostile.targets import TARGETS

cached_seeds = cache(seeds)
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
