"""Names as pictures show them: how long, and in which fonts."""

from __future__ import annotations

_LONGEST_NAME = 18  # characters


def short(name: str) -> str:
    """A name as there is room for it."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def fonts() -> list[str]:
    """Matplotlib's own font, then those of other scripts as far as this machine has them."""
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    others = ("Noto Sans CJK JP", "Noto Sans Arabic", "Noto Sans Devanagari", "Arial Unicode MS", "Hiragino Sans")
    return ["DejaVu Sans", *(name for name in others if name in installed)]
