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
_PLACEHOLDERS = "Last Resort"
"""A font that has a box for every character there is."""


def families_for(text: str) -> list[str] | None:
    """Font families that together draw every character of `text`, or None if this computer has none for some."""
    files = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    missing = {character for character in text if not character.isspace()} - _characters(files[LATIN])
    if not missing:
        return [LATIN]
    others = sorted(name for name in files if not name.startswith(_PLACEHOLDERS))
    for name in (*(favourite for favourite in _FAVOURITES if favourite in files), *others):
        if missing <= _characters(files[name]):
            return [LATIN, name]
    return None


@cache
def _characters(file: str) -> set[str]:
    try:
        return {chr(code) for code in FT2Font(file).get_charmap()}
    except (OSError, RuntimeError):
        return set()
