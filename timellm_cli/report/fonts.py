"""Fonts for names that matplotlib's own font cannot draw, such as Chinese ones."""

from functools import cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

LATIN = "DejaVu Sans"
_FAVOURITES = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "WenQuanYi Micro Hei",
    "SimHei",
    "Arial Unicode MS",
)


def families_for(text: str) -> list[str] | None:
    """Font families that together draw every character of `text`, or None if this computer has none for some."""
    missing = {character for character in text if not character.isspace()} - _characters(LATIN)
    if not missing:
        return [LATIN]
    installed = {font.name for font in font_manager.fontManager.ttflist}
    candidates = [*(name for name in _FAVOURITES if name in installed), *sorted(installed - set(_FAVOURITES))]
    for name in candidates:
        if missing <= _characters(name):
            return [LATIN, name]
    return None


@cache
def _characters(family: str) -> set[str]:
    try:
        return {chr(code) for code in FT2Font(font_manager.findfont(family)).get_charmap()}
    except (OSError, RuntimeError, ValueError):
        return set()
