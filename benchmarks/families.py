"""One training step of each generative and vision-language family, against plain Keras on the same network and CPU.

    python benchmarks/families.py [FAMILY ...] [--batch 32] [--rounds 5] [--heats 5]

Ours is the step that `zoo fit` takes: objective, learner and engine of a run, on its first batch, over and over. Theirs
is the same network of the zoo in a keras.Model with a train_step as the examples of keras.io write it, compiled with
Adam, on the same batch. Both have random weights and TensorFlow's oneDNN kernels, which `pipelines` turns on by itself,
and processes of their own that take turns, round by round, so that a machine whose speed drifts slows both. Processes
of the same code differ by some 5 %, so each heat starts new ones. Printed are medians over the heats of the medians
over their rounds, and how many times as fast ours is: the median, the least and the most of the heats.

Our steps give the same weights each time, bit for bit, and our GANs average the generator's weights besides; theirs do
neither. The images of a step of ours serve both networks; theirs makes others for the generator, as keras.io's does.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.contender import Contender, race, serve

if TYPE_CHECKING:
    import keras

    from pipelines.run import Run

SIZE = 32  # pixels
_KERNELS = {"TF_ENABLE_ONEDNN_OPTS": "1"}
_CLIP = {"patch": 8, "width": 192, "depth": 4, "heads": 3, "mlp_width": 768, "projection": 128, "size": SIZE}
_CLIP |= {"text_width": 128, "text_depth": 4, "text_heads": 2, "text_mlp_width": 512, "length": 32}
_BLIP = {**_CLIP, "text_width": 192, "text_heads": 3, "text_mlp_width": 768}
_COLORS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220), "yellow": (230, 210, 40)}


def _images(model: str, folder: Path, *, task: str | None = None, **overrides: Any) -> Run:
    from pipelines.run import Images, Phase, Run

    phases = (Phase(1, 2e-4, unfreeze="all", batch_norm="train", warmup=0.0),)
    return Run(model, Images("digits", size=SIZE, augment="none"), phases, folder, task=task, overrides=overrides)


def _pairs(model: str, folder: Path, **overrides: Any) -> Run:
    """Of squares in four colors, with captions."""
    import numpy as np
    from PIL import Image

    from pipelines.run import Pairs, Phase, Run

    draw, lines = np.random.default_rng(0), []
    for number in range(300):
        name, color = list(_COLORS.items())[number % len(_COLORS)]
        pixels = np.full((SIZE, SIZE, 3), 250, "uint8")
        top, left = draw.integers(0, SIZE // 2, 2)
        pixels[top : top + SIZE // 2, left : left + SIZE // 2] = color
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append(
            json.dumps({"image": f"{number}.png", "caption": f"a {name} square, {top} down and {left} across"})
        )
    (folder / "captions.jsonl").write_text("\n".join(lines))
    data = Pairs(str(folder / "captions.jsonl"), tokenizer="bpe", vocabulary=400, augment="none")
    return Run(model, data, (Phase(1, 2e-4, unfreeze="all", warmup=0.0),), folder, overrides=overrides)


def _drawing(folder: Path) -> Run:
    """Of the same pairs, and the codes of an autoencoder as it begins."""
    import zoo
    from pipelines import bundle
    from pipelines.run import Drawing

    stage_one = folder / "dvae"
    stage_one.mkdir()
    bundle.save_model(zoo.create("dalle_tiny", task="reconstruct"), stage_one / "model.keras")
    (stage_one / "run.json").write_text(_images("dalle_tiny", stage_one, task="reconstruct").to_json())
    description = {"format": bundle.FORMAT, "task": "reconstruct", "classes": [], "files": {}}
    (stage_one / "bundle.json").write_text(json.dumps(description))
    drawing = Drawing(str(stage_one), caption_dropout=0.0)
    return dataclasses.replace(_pairs("dalle_tiny", folder), task="text_to_image", drawing=drawing)


RUNS: dict[str, Callable[[Path], Run]] = {
    "gan_dcgan": lambda folder: _images("gan_dcgan", folder, size=SIZE, depth=3),
    "gan_wgan_gp": lambda folder: _images("gan_wgan_gp", folder, size=SIZE, depth=3),
    "vae_conv": lambda folder: _images("vae_conv", folder, size=SIZE, widths=(32, 64), latent=16),
    "vae_vq": lambda folder: _images("vae_vq", folder, size=SIZE),
    "dalle_codes": lambda folder: _images("dalle_tiny", folder, task="reconstruct"),
    "dalle": _drawing,
    "clip": lambda folder: _pairs("clip_vit_base32", folder, **_CLIP),
    "blip": lambda folder: _pairs("blip_base", folder, **_BLIP),
}


def _prepared(
    name: str, folder: Path, batch: int, *, deterministic: bool
) -> tuple[Run, Any, Any, keras.Model, keras.Model, Any]:
    """A run with all that it leaves open, its data, objective, model, what learns, and its batches."""
    from pipelines import datasets, hardware, objectives, settling
    from pipelines.creation import create
    from pipelines.run import Hardware

    chosen = dataclasses.replace(RUNS[name](folder), batch=batch, hardware=Hardware(deterministic=deterministic))
    run = settling.settled(chosen)
    hardware.seed(run.hardware, run.seed)
    data = datasets.load(run)
    objective = objectives.of_run(run, data)
    model = create(run, data, objective.options)
    learner = objective.learner(model) if objective.learner else model
    feed = objective.complete(data.training_set(learner, batch=batch, seed=0), seed=0, training=True)
    return run, data, objective, model, learner, feed


def _ours(name: str, folder: Path, batch: int) -> Callable[[int], object]:
    from shared.ours import engine

    run, _, objective, _, learner, feed = _prepared(name, folder, batch, deterministic=True)
    trained = engine(
        learner, run.phases[0], run.optimization,
        loss=objective.loss(), metrics=objective.metrics(), spec=feed.spec, kind=objective.engine,
    )  # fmt: skip
    batches = trained.batches(feed.start(0).take(1).cache().repeat())
    return lambda steps: [trained.train(batches) for _ in range(steps)]


def _theirs(name: str, folder: Path, batch: int) -> Callable[[int], object]:
    from shared import plain

    run, data, _, model, _, feed = _prepared(name, folder, batch, deterministic=False)
    learner = plain.learner(run, data, model)
    batches = iter(feed.start(0).take(1).cache().repeat())
    learner.make_train_function()
    return lambda steps: [learner.train_function(batches) for _ in range(steps)]


def compare(name: str, options: argparse.Namespace) -> None:
    """Print one line of the table."""
    heats = [_heat(name, options) for _ in range(options.heats)]
    ours, theirs = (1000 * statistics.median(found) for found in zip(*heats, strict=True))
    ratios = sorted(theirs / ours for ours, theirs in heats)
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    print(f"{name:14} {ours:9.1f} {theirs:9.1f} {statistics.median(ratios):8.3f} x   {spread}", flush=True)


def _heat(name: str, options: argparse.Namespace) -> tuple[float, float]:
    """The seconds of a step in two new processes, ours and theirs."""
    contenders = {
        who: Contender({"who": who, "name": name, "batch": options.batch}, python=sys.executable, environment=_KERNELS)
        for who in ("zoo", "keras")
    }
    seconds = race(contenders, options.rounds, amount=options.steps)
    if missing := contenders.keys() - seconds:
        raise RuntimeError(f"{missing.pop()} cannot train {name}; try --work to see why.")
    return seconds["zoo"], seconds["keras"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, or one contender of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(RUNS)}; all if none is given")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20, help="of a round")
    parser.add_argument("--rounds", type=int, default=5, help="of a heat")
    parser.add_argument("--heats", type=int, default=5, help="with new processes each")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        job = json.loads(options.work)
        with tempfile.TemporaryDirectory() as folder:
            prepare = _ours if job["who"] == "zoo" else _theirs
            return serve(lambda: prepare(job["name"], Path(folder), job["batch"]))
    unknown = [name for name in options.families if name not in RUNS]
    if unknown:
        parser.error(f"no {unknown[0]!r} here; there are {', '.join(RUNS)}")
    rounds = f"{options.heats} heats of {options.rounds} rounds of {options.steps} steps"
    print(f"milliseconds a step of {options.batch} examples, {rounds}")
    print(f"{'':14} {'zoo':>9} {'keras':>9} {'ratio':>8}     of heats")
    for name in options.families or RUNS:
        compare(name, options)


if __name__ == "__main__":
    main()
