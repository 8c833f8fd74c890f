"""Language models as files that write: token for token what Keras writes in whole passes, without a cache."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from pipelines import metadata, serving, tflite
from pipelines.agreement import Tolerance
from pipelines.export import export
from pipelines.exported_steps import Writer
from pipelines.interface import Interface, predict
from pipelines.proof_steps import WritingProof
from tests.pipelines.text_models import SMALL, VOCABULARY, shaken, texts

RECURRENT = {"vocabulary": VOCABULARY, "embedding": 8, "width": 8, "depth": 2}
MODELS = {
    "gpt": ("gpt2", "causal_lm", {**SMALL, "length": 16}),
    "t5": ("t5_small", "seq2seq", {**SMALL, "head_width": 8}),
    "lstm": ("rnn_lstm", "causal_lm", RECURRENT),
    "gru, seq2seq": ("rnn_gru", "seq2seq", RECURRENT),
}
STEPS = 12


def made(kind: str) -> tuple[keras.Model, dict[str, np.ndarray], Interface]:
    name, task, options = MODELS[kind]
    model = shaken(name, task, scale=1.0 if name.startswith("rnn") else 0.3, **options)
    if kind == "lstm":  # whose numbers stay so small that the bias would choose every token
        model.get_layer("head_vocabulary").bias.assign(np.zeros(VOCABULARY))
    return model, texts(model, count=3, length=10), Interface(task=task, lengths={}, steps=STEPS)


def greedy(model: keras.Model, prompt: list[int], count: int, given: dict[str, np.ndarray], task) -> list[int]:
    """What Keras writes after a prompt, with a whole pass of the model for each token."""
    prefix, tokens = "decoder_" if given else "", list(prompt)
    for _ in range(count):
        ids = np.array([tokens], "int32")
        inputs = {**given, f"{prefix}token_ids": ids, f"{prefix}padding_mask": np.ones_like(ids)}
        tokens.append(int(predict(model, inputs, task)["logits"][0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize(
    "kind", ["gpt", "t5", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("lstm", "gru, seq2seq"))]
)
def test_a_tflite_step_writes_what_keras_writes(kind, tmp_path):
    model, samples, interface = made(kind)
    for name, (part, its) in tflite.writers.parts(model, interface).items():
        tflite.write_frozen(part, tmp_path / name, its)
        made_file = tflite.converter("float32", tmp_path / name, tmp_path, images=False).convert()
        (tmp_path / f"{name}.tflite").write_bytes(made_file)
        assert all(metadata.operators(tmp_path / f"{name}.tflite").values())
    encoder = tmp_path / "encoder.tflite"
    writer = Writer.of_tflite(tmp_path / "step.tflite", encoder if encoder.is_file() else None)
    given = {name: samples[name][:1] for name in ("token_ids", "padding_mask")} if encoder.is_file() else {}
    text = {name: values[0] for name, values in given.items()}
    expected = greedy(model, [3, 1, 4], 7, given, interface.task)
    assert len(set(expected)) > 1
    assert writer.greedy([3, 1, 4], 7, text) == expected
    assert writer.greedy([3, 1, 4], 7, text) == expected  # nothing is left of the text before
    assert writer.greedy([5], 3, text) == greedy(model, [5], 3, given, interface.task)


def test_the_saved_model_writes_too(tmp_path):
    model, samples, interface = made("t5")
    serving.write(model, tmp_path / "saved_model", interface)
    writer = Writer.of_saved_model(tmp_path / "saved_model")
    given = {name: samples[name][:1] for name in ("token_ids", "padding_mask")}
    text = {name: values[0] for name, values in given.items()}
    assert writer.greedy([3, 1], 6, text) == greedy(model, [3, 1], 6, given, "seq2seq")
    with pytest.raises(ValueError, match="cache of this step holds 12 tokens"):
        writer.greedy(range(1, 11), 4, text)


@pytest.mark.parametrize("kind", [pytest.param("gpt", marks=pytest.mark.slow), "t5"])
def test_the_proof_writes_on_from_real_prompts(kind):
    """What it holds files against is what a loop of whole passes gives."""
    model, samples, interface = made(kind)
    proof = WritingProof(model=model, interface=interface, samples=samples)
    assert [len(prompt) for prompt in proof.prompts] != [len(proof.prompts[0])] * 3
    for row, prompt in enumerate(proof.prompts):
        given = {name: values[row : row + 1] for name, values in proof.given.items()}
        count = proof.written.shape[1] - len(prompt)
        assert proof.written[row].tolist() == prompt + greedy(model, prompt, count, given, interface.task)


def test_another_token_fails_the_proof():
    model, samples, interface = made("gpt")
    proof = WritingProof(model=model, interface=interface, samples=samples)
    logits, exact = proof.expected.outputs["logits"], Tolerance().exact
    assert proof.compare(logits, exact)[1] == []
    wrong = logits.copy()
    wrong[1, -2, (proof.written[1, -1] + 1) % VOCABULARY] = logits.max() + 1
    problems = proof.compare(wrong, exact)[1]
    assert "it writes 1 of" in problems[-1]


@pytest.mark.slow
def test_export_writes_and_proves_all_parts(tmp_path):
    model, samples, _ = made("t5")
    report = export(model, ["saved_model", "float32"], out=tmp_path, task="seq2seq", samples=samples, steps=STEPS)
    files = ["saved_model", "float32.tflite", "float32_step.tflite", "float32_encoder.tflite"]
    assert [row.file for row in report.rows] == files
    assert all((tmp_path / name).exists() for name in files)
    assert [row.agreement for row in report.rows] == [1, 1, 1, None]
    export(model, ["float32"], out=tmp_path, task="seq2seq", samples=samples)  # without steps: another export
    assert {path.name for path in tmp_path.iterdir()} == {"float32.tflite", "export.json"}


def test_a_model_that_cannot_write_is_refused(tmp_path):
    model = shaken("bert_tiny", "masked_lm", **SMALL)
    with pytest.raises(ValueError, match="looks at the tokens that come after"):
        export(model, ["float32"], out=tmp_path, task="masked_lm", samples=texts(model), steps=4)
    with pytest.raises(ValueError, match=r"1 to 16 tokens"):
        model, samples, _ = made("gpt")
        export(model, ["float32"], out=tmp_path, task="causal_lm", samples=samples, steps=17)
    assert not list(tmp_path.iterdir())
