"""The rows of what takes images and texts."""

from __future__ import annotations

from tests.row import Row

_TOWER = {"width": 16, "depth": 2, "heads": 2, "mlp_width": 32}
_TEXT = {"text_width": 12, "text_depth": 2, "text_heads": 3, "text_mlp_width": 20, "vocabulary": 40, "length": 24}
_PACK_TOWER = {"width": 80, "depth": 3, "heads": 5, "mlp_width": 160}
_PACK_TEXT = {"text_width": 64, "text_depth": 3, "text_heads": 4, "text_mlp_width": 128, "projection": 48}
_PACK = {**_PACK_TOWER, **_PACK_TEXT, "patch": 16}


# Variants that differ in their patches or in the kind of GELU are one structure to the tests.
_CLIP = {**_TOWER, **_TEXT, "projection": 10, "patch": 8, "size": (8, 16), "activation": "gelu"}
_CLIP |= {"text_activation": "gelu"}


def _clip(variant: str, parameters: int, *packs: str) -> Row:
    return Row(variant, parameters, _CLIP, {pack: _PACK for pack in packs})


_QUESTIONS = {"width": 64, "depth": 2, "heads": 4, "mlp_width": 80, "patch": 16, "projection": 40}
_QUESTIONS |= {"text_width": 64, "text_depth": 2, "text_heads": 4, "text_mlp_width": 96}
_BLIP = {**_TOWER, **_TEXT, "text_width": 16, "text_heads": 2, "projection": 10, "size": (16, 32)}

PAIRS = (
    _clip("clip_vit_base32", 151_277_313, "hf_clip"),
    _clip("clip_vit_base16", 149_620_737),
    _clip("clip_vit_large14", 427_616_513),
    _clip("clip_vit_large14_336", 427_944_193),
    _clip("clip_vit_base32_laion", 151_277_313),
    _clip("clip_vit_base16_laion", 149_620_737),
    _clip("clip_vit_large14_laion", 427_616_513),
    _clip("clip_vit_huge14_laion", 986_109_441),
    _clip("clip_vit_giant14_laion", 1_366_678_273),
    _clip("clip_vit_gigantic14_laion", 2_539_567_105),
    Row(
        "blip_base",
        223_971_644,
        _BLIP,
        {"hf_blip_caption": _PACK, "hf_blip_itm": _PACK, "extra_hf_blip_vqa": _QUESTIONS},
    ),
    Row("blip_large", 446_290_492, _BLIP),
)
