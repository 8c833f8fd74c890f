"""The rows of what reads and writes sequences: texts and series."""

from __future__ import annotations

from tests.row import Row
from zoo.layers.scale import Scale
from zoo.layers.series import Windows

_HF_TEXT = {"width": 64, "depth": 3, "heads": 4, "mlp_width": 128}


def _text(variant: str, parameters: int, *packs: str) -> Row:
    """An encoder of BERT's kind; its packs are of one size."""
    tiny = {"width": 16, "depth": 2, "heads": 2, "mlp_width": 32, "vocabulary": 40, "length": 24}
    return Row(variant, parameters, tiny, {pack: _HF_TEXT for pack in packs})


_T5 = {"width": 16, "depth": 2, "heads": 2, "head_width": 6, "mlp_width": 32, "vocabulary": 40}
_T5_PACK = {"width": 64, "depth": 3, "heads": 4, "head_width": 16, "mlp_width": 128}
_TRANSFORMER = {"width": 16, "depth": 2, "heads": 2, "mlp_width": 32, "vocabulary": 40}
_TORCH_TRANSFORMER = {"width": 32, "depth": 2, "heads": 4, "mlp_width": 64}
_COLUMNS = Scale(("load", "heat"), (1.0, 2.0), (0.5, 3.0))
_SERIES = Windows(_COLUMNS, Scale(("load",), (1.0,), (0.5,)), window=6, horizon=3)
_RNN = {"width": 16, "depth": 2, "vocabulary": 40, "embedding": 12, "series": _SERIES}
_GPT = {"width": 16, "depth": 2, "heads": 2, "mlp_width": 32, "vocabulary": 40, "length": 24}
_GPT_PACKS = {
    "hf_gpt2_lm": {"width": 64, "depth": 3, "heads": 4, "mlp_width": 256},
    "hf_gpt2_lm_hub_names": {"width": 48, "depth": 3, "heads": 3, "mlp_width": 192},
}

SEQUENCES = (
    _text("bert_tiny", 4_385_920),
    _text("bert_mini", 11_170_560),
    _text("bert_small", 28_763_648),
    _text("bert_medium", 41_373_184),
    _text(
        "bert_base",
        109_482_240,
        *("hf_bert_model", "hf_bert_seqcls", "hf_bert_qa", "hf_bert_mlm", "hf_bert_mlm_legacy_names"),
        *("extra_hf_bert_tagger", "extra_hf_bert_mlm_untied"),
    ),
    _text("bert_base_cased", 108_310_272),
    _text("bert_base_multilingual", 177_853_440),
    _text("bert_large", 335_141_888),
    _text("bert_large_cased", 333_579_264),
    _text("bert_minilm_l6", 22_713_216),
    _text("bert_minilm_l12", 33_360_000),
    _text(
        "roberta_base",
        124_645_632,
        *("hf_roberta_model", "hf_roberta_seqcls", "extra_hf_roberta_mlm", "extra_hf_roberta_tagger"),
    ),
    _text("roberta_large", 355_359_744),
    _text("distilroberta_base", 82_118_400),
    _text("xlm_roberta_base", 278_043_648, "extra_hf_xlm_roberta_qa"),
    _text("xlm_roberta_large", 559_890_432),
    _text(
        "distilbert_base",
        66_362_880,
        *("hf_distilbert_model", "hf_distilbert_seqcls", "extra_hf_distilbert_mlm", "extra_hf_distilbert_tagger"),
        "extra_hf_distilbert_qa",
    ),
    _text("distilbert_base_cased", 65_190_912),
    _text("distilbert_base_multilingual", 134_734_080),
    Row("gpt2", 124_439_808, _GPT, _GPT_PACKS),
    Row("gpt2_medium", 354_823_168, _GPT),
    Row("gpt2_large", 774_030_080, _GPT),
    Row("gpt2_xl", 1_557_611_200, _GPT),
    Row("distilgpt2", 81_912_576, _GPT),
    Row("t5_small", 60_506_624, _T5, {"hf_t5_v10": _T5_PACK}),
    Row("t5_base", 222_903_552, _T5),
    Row("t5_large", 737_668_096, _T5),
    Row("t5_3b", 2_851_598_336, _T5),
    Row("t5_11b", 11_307_321_344, _T5),
    Row("t5_v1_1_small", 76_961_152, _T5, {"hf_t5_v11": _T5_PACK}),
    Row("t5_v1_1_base", 247_577_856, _T5),
    Row("t5_v1_1_large", 783_150_080, _T5),
    Row("t5_v1_1_xl", 2_849_757_184, _T5),
    Row("t5_v1_1_xxl", 11_135_332_352, _T5),
    Row("flan_t5_small", 76_961_152, _T5),
    Row("flan_t5_base", 247_577_856, _T5),
    Row("flan_t5_large", 783_150_080, _T5),
    Row("flan_t5_xl", 2_849_757_184, _T5),
    Row("flan_t5_xxl", 11_135_332_352, _T5),
    Row(
        "transformer_base",
        63_082_496,
        _TRANSFORMER,
        {"torch_transformer_post": _TORCH_TRANSFORMER, "torch_transformer_pre": _TORCH_TRANSFORMER},
    ),
    Row("transformer_big", 214_245_376, _TRANSFORMER),
    Row("transformer_small", 5_734_400, _TRANSFORMER),
    Row("transformer_tiny", 1_949_696, _TRANSFORMER),
    Row("rnn_simple", 1_510_402, _RNN, {"torch_rnn_tanh": {"width": 20, "depth": 1}}),
    Row("rnn_lstm", 2_200_066, _RNN, {"torch_lstm_bi": {"width": 20, "depth": 2, "bidirectional": True}}),
    Row("rnn_gru", 1_971_714, _RNN, {"torch_gru": {"width": 20, "depth": 2}}),
)
