"""Which language is spoken: the option wherever it stands, the variable, the locale; and only where it can be shown."""

import io

import pytest

from timellm_cli.lang.choice import choose, is_chinese, take_option


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        (["--lang", "zh", "inspect"], ["--lang", "zh", "inspect"]),
        (["inspect", "a.csv", "--lang", "zh"], ["--lang", "zh", "inspect", "a.csv"]),
        (["inspect", "--lang=zh", "--json"], ["--lang=zh", "inspect", "--json"]),
        (["inspect", "--lang"], ["inspect", "--lang"]),
        (["inspect", "--", "--lang", "zh"], ["inspect", "--", "--lang", "zh"]),
        ([], []),
    ],
)
def test_the_option_is_taken_from_wherever_it_stands(words: list[str], taken: list[str]) -> None:
    assert take_option(words) == taken


@pytest.mark.parametrize(
    ("words", "variables", "language"),
    [
        ([], {}, "en"),
        (["--lang", "zh"], {"LANG": "de_DE.UTF-8"}, "zh"),
        (["--lang=en"], {"LANG": "zh_CN.UTF-8", "TIMELLM_LANG": "zh"}, "en"),
        (["inspect"], {"TIMELLM_LANG": "zh", "LANG": "en_US.UTF-8"}, "zh"),
        (["inspect"], {"LANG": "zh_CN.UTF-8"}, "zh"),
        (["inspect"], {"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        (["inspect"], {"LANG": "zh_TW.UTF-8"}, "en"),
        (["inspect"], {"TIMELLM_LANG": "zh_TW"}, "zh"),
        (["--lang", "fr"], {"LANG": "zh_CN.UTF-8"}, "en"),
    ],
)
def test_option_goes_before_variable_before_locale(words: list[str], variables: dict[str, str], language: str) -> None:
    assert choose(words, variables) == language


@pytest.mark.parametrize(
    ("name", "chinese"),
    [
        ("Chinese (Simplified)_China.936", True),
        ("Chinese (Simplified)_Singapore.936", True),
        ("Chinese (Traditional)_Taiwan.950", False),
        ("zh-Hans-CN", True),
        ("zh_CN.GBK", True),
        ("zh", True),
        ("zh_HK", False),
        ("English_United States.1252", False),
        ("C", False),
        ("zha", False),
    ],
)
def test_locales_of_every_system_are_known(name: str, chinese: bool) -> None:
    assert is_chinese(name, stated=False) is chinese


@pytest.mark.parametrize(("encoding", "language"), [("gbk", "zh"), ("utf-8", "zh"), ("cp1252", "en"), ("ascii", "en")])
def test_a_stream_that_cannot_show_chinese_gets_english(
    encoding: str, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(io.BytesIO(), encoding))
    assert choose(["--lang", "zh"], {}) == language
