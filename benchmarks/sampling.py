"""How much faster DALL-E's transformer of 12 layers writes the 256 codes of an image with a cache than without.

    python benchmarks/sampling.py [--images 1] [--looks 8] [--guided] [--model dalle_base]

One run: an image is written with the cache, every token timed; at `looks` places all over it a whole pass of the model
over the same tokens is timed too, which is what a token costs without a cache, and its logits are compared with those
of the cache. The time of all 256 without a cache is the sum over the places, those between two looks as the line
between them says. With --looks 256 every place is timed, which takes minutes. Weights are random, tracing and warming
up are not timed. What is printed are medians and the ratio of both sums; the first pass over the text counts in both.
"""

from __future__ import annotations

import argparse
import statistics
import time

import keras
import numpy as np

import zoo
from pipelines.steps import Steps, WholePasses, cached_steps
from zoo.dalle import layout_of

SIDE = 128  # pixels: 16 x 16 codes


def seconds(call) -> tuple[float, np.ndarray]:
    """How long it takes, and what it gives."""
    begun = time.perf_counter()
    found = call()
    return time.perf_counter() - begun, found


def written(steps: Steps, whole: WholePasses, prompts: list[list[int]], places: int, looks: int) -> None:
    """Write greedily with the cache, look at the other way now and then, and print both."""
    looked = set(np.linspace(0, places - 1, looks).round().astype(int).tolist())
    for each in (steps, whole):  # traced here
        each.begin(prompts, {})
        each.extend(np.full(len(prompts), 1))
        each.close()
    first, logits = seconds(lambda: steps.begin(prompts, {}))
    texts = [list(prompt) for prompt in prompts]
    cached, passes, apart = [first], {}, 0.0
    for place in range(places):
        if place in looked:
            passes[place], other = seconds(lambda: whole.begin(texts, {}))
            possible = other > -1e8
            apart = max(apart, float(np.abs(logits - other)[possible].max()))
        tokens = logits.argmax(-1).astype("int32")
        for text, token in zip(texts, tokens.tolist(), strict=True):
            text.append(token)
        if place < places - 1:
            spent, logits = seconds(lambda: steps.extend(tokens))  # noqa: B023  # called at once
            cached.append(spent)
    without = float(np.interp(np.arange(places), list(passes), list(passes.values())).sum())
    print(f"a token with the cache:    {statistics.median(cached) * 1e3:9.1f} ms (median of {len(cached)})")
    print(f"a token without:           {statistics.median(passes.values()) * 1e3:9.1f} ms (median of {len(passes)})")
    print(f"{places} tokens with the cache: {sum(cached):8.1f} s")
    print(f"{places} tokens without:        {without:8.1f} s, {without / sum(cached):.1f} x")
    print(f"largest difference of the logits: {apart:.1e}")


def main() -> None:
    """Compare the two ways as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1, help="written at a time")
    parser.add_argument("--looks", type=int, default=8, help="places at which the way without a cache is timed")
    parser.add_argument("--guided", action="store_true", help="with two rows for each image, as guidance has")
    parser.add_argument("--model", default="dalle_base")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    model = zoo.create(options.model, size=SIDE)
    layout = layout_of(model)
    rows = options.images * (2 if options.guided else 1)
    texts = np.random.default_rng(0).integers(1, layout.words, (rows, layout.length))
    prompts = layout.prompt(texts).tolist()
    print(f"{options.model}: {model.count_params():,} weights, {layout.length} tokens of text, rows: {rows}")
    written(cached_steps(model), WholePasses(model), prompts, layout.rows * layout.columns, options.looks)


if __name__ == "__main__":
    main()
