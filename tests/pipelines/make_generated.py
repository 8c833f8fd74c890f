"""Make generated.json: what transformers' generate() writes with the weights of two parity packs.

    python -m tests.pipelines.make_generated

For people with torch and transformers, which neither users nor tests have.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import transformers
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from tests.parity import packs

FILE = Path(__file__).with_name("generated.json")
MODELS = {"hf_gpt2_lm": "GPT2LMHeadModel", "hf_t5_v10": "T5ForConditionalGeneration"}
LENGTHS = (5, 11, 2)  # tokens of the prompts
OPTIONS: tuple[dict[str, Any], ...] = (
    {"num_beams": 1},
    {"num_beams": 1, "repetition_penalty": 1.5},
    {"num_beams": 3},
    {"num_beams": 4, "length_penalty": 2.0, "early_stopping": True},
    {"num_beams": 3, "length_penalty": 0.0},
    {"num_beams": 3, "length_penalty": -1.0, "repetition_penalty": 1.3},
)
WARPERS: tuple[dict[str, float], ...] = (
    {"temperature": 0.7},
    {"temperature": 1.3, "top_k": 5},
    {"temperature": 1.0, "top_p": 0.6},
    {"temperature": 0.8, "top_k": 20, "top_p": 0.9},
    {"temperature": 1.0, "top_p": 0.05},
)


def written(name: str) -> dict[str, Any]:
    """What one model writes, by options and by the tokens that end a text."""
    pack = packs.load(name)
    with TemporaryDirectory() as folder:
        model = getattr(transformers, MODELS[name]).from_pretrained(pack.write(Path(folder))).eval()
    random = np.random.default_rng(0)
    prompts = [random.integers(2, 130, length).tolist() for length in LENGTHS]
    longest = max(LENGTHS)
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    found = []
    for stop in ([], frequent(model, ids, mask)):
        for options in OPTIONS:
            # T5 sees its padding at the end, as it was trained.
            order = [row.tolist() for row in ids] if not model.config.is_encoder_decoder else None
            texts = ids if order else torch.tensor([prompt + [0] * (longest - len(prompt)) for prompt in prompts])
            seen = mask if order else mask.flip(1)
            begun = longest if order else 1
            answer = model.generate(texts, attention_mask=seen, **settings(stop), **options)
            new = [cut(row[begun:], stop) for row in answer.tolist()]
            found.append({"options": options, "stop": stop, "texts": new})
    return {"prompts": prompts, "written": found}


def frequent(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> list[int]:
    """Two tokens that the model likes to write, so that texts end at different places."""
    answer = model.generate(ids, attention_mask=mask, do_sample=True, top_k=20, **settings([]))
    tokens, counts = np.unique(answer[:, -20:].numpy(), return_counts=True)
    return [int(token) for token in tokens[np.argsort(-counts)] if token][:2]


def settings(stop: list[int]) -> dict[str, Any]:
    torch.manual_seed(0)
    return {"max_new_tokens": 20, "eos_token_id": stop or None, "pad_token_id": 0}


def cut(text: list[int], stop: list[int]) -> list[int]:
    """A text up to the first token that ends it."""
    return text[: next((place for place, token in enumerate(text) if token in stop), len(text))]


def warped() -> dict[str, Any]:
    """The probabilities that sampling draws from."""
    logits = 2 * np.random.default_rng(0).standard_normal(40).astype("float32")
    kinds = {"temperature": TemperatureLogitsWarper, "top_k": TopKLogitsWarper, "top_p": TopPLogitsWarper}
    found = []
    for options in WARPERS:
        warpers = LogitsProcessorList([kinds[name](value) for name, value in options.items()])
        probabilities = warpers(torch.zeros((1, 1), dtype=torch.long), torch.from_numpy(logits)[None]).softmax(-1)
        found.append({"options": options, "probabilities": [float(f"{value:.7g}") for value in probabilities[0]]})
    return {"logits": [float(f"{value:.9g}") for value in logits], "warped": found}


if __name__ == "__main__":
    values = {name: written(name) for name in MODELS} | {"warpers": warped()}
    FILE.write_text(json.dumps(values) + "\n", encoding="utf-8")
