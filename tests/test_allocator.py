"""How PyTorch is asked to lay out a GPU's memory."""

import os
import sys

import pytest

from timellm_cli.cli import use_expandable_segments

NAMES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


def settings_after(monkeypatch: pytest.MonkeyPatch, platform: str, **own: str) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | own
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(sys, "platform", platform)
    use_expandable_segments()
    return {name: environment[name] for name in NAMES if name in environment}


def test_memory_grows_in_one_piece_where_pytorch_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_after(monkeypatch, "linux") == {NAMES[0]: "expandable_segments:True"}
    assert settings_after(monkeypatch, "win32") == {}


@pytest.mark.parametrize("name", NAMES)
def test_settings_of_the_user_stay_as_they_are(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert settings_after(monkeypatch, "linux", **{name: "max_split_size_mb:128"}) == {name: "max_split_size_mb:128"}
