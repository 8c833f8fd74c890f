"""Kills runs at random moments and goes on with them: each must end with the weights of an undisturbed one.

    python -m tests.crash --kills 100 [--seed 0] [--case "images fine_tuning"]

Every run is a child process, forked once TensorFlow is imported; it gets SIGKILL one to three times, at any moment
between its start and the time that an undisturbed run takes, and is resumed in a child of its own each time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.adversary import Adversary
from pipelines.recipes import RECIPES, adversarial, from_scratch
from pipelines.run import Drawing, Images, Pairs, Run, Texts
from tests.pipelines import drawings

RECIPE_OPTIONS = {
    "feature_extraction": {"epochs": 3},
    "fine_tuning": {"epochs": 2, "head_epochs": 1},
    "progressive_unfreezing": {"epochs": 1, "groups": 3},
}
PAIRS: dict[str, Any] = {"augment": "none", "vocabulary": 100, "size": 16}
CLIP = {
    **{"patch": 8, "width": 16, "depth": 1, "heads": 2, "mlp_width": 16, "projection": 8, "length": 16},
    **{"text_width": 16, "text_depth": 1, "text_heads": 2, "text_mlp_width": 16},
}
TEXTS = {"tokenizer": "wordpiece", "vocabulary": 120, "length": 16}


def cases(folder: Path, case: str | None = None) -> dict[str, Run]:
    """A small run of each recipe on images, augmented and with dropout, and on texts; and some that learn otherwise.

    Those need an autoencoder, which is not made where one of the former is the only `case`.
    """
    _write_images(folder / "images.npz")
    _write_texts(folder / "texts.csv")
    found = _recipes(folder)
    return found if case in found else {**found, **_families(folder)}


def _recipes(folder: Path) -> dict[str, Run]:
    data = {
        "images": ("cnn", Images(str(folder / "images.npz"), size=16), {"widths": (4, 8), "hidden": 16}),
        "texts": ("bert_tiny", Texts(str(folder / "texts.csv"), **TEXTS), {"width": 16, "depth": 2, "mlp_width": 32}),
    }
    return {
        f"{kind} {recipe}": Run(
            model,
            source,
            RECIPES[recipe](**options),
            folder / f"{kind} {recipe}",
            overrides=overrides,
            batch=16,
            save_steps=2,
        )
        for kind, (model, source, overrides) in data.items()
        for recipe, options in RECIPE_OPTIONS.items()
    }


def _families(folder: Path) -> dict[str, Run]:
    """One of opponents with more steps of the critic, one of a codebook, and two of images with captions."""
    images, pairs = Images(str(folder / "images.npz"), size=16), Pairs(str(folder / "data"), **PAIRS)
    child(lambda: drawings.prepare(folder))
    recipes = {"gan_wgan_gp": adversarial}
    rows: dict[str, tuple[Images | Pairs, dict[str, Any], dict[str, Any]]] = {
        "gan_wgan_gp": (images, {"depth": 2, "width": 4, "latent": 6}, {"adversary": Adversary(critic_steps=3)}),
        "vae_vq": (images, {"widths": (4, 6), "latent": 3, "codes": 8}, {}),
        "dalle_tiny": (pairs, drawings.SMALL, {"task": "text_to_image", "drawing": Drawing(str(folder / "dvae"))}),
        "clip_vit_base32": (pairs, CLIP, {}),
    }
    return {
        model: Run(
            model,
            data,
            recipes.get(model, from_scratch)(epochs=3),
            folder / model,
            overrides=sizes,
            batch=16,
            save_steps=2,
            **options,
        )
        for model, (data, sizes, options) in rows.items()
    }


def _write_images(path: Path) -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 120)
    images = draw.integers(0, 200, (120, 16, 16, 3))
    images[np.arange(120), :, :, labels] += 50
    np.savez(path, images=images.astype("uint8"), labels=labels)


def _write_texts(path: Path) -> None:
    draw = random.Random(0)
    words = {"good": ("fine", "bright", "warm", "kind"), "bad": ("dull", "grey", "cold", "mean")}
    lines = ["text,label"]
    for number in range(120):
        label = ("good", "bad")[number % 2]
        lines.append(f"{' '.join(draw.choices(words[label], k=draw.randint(2, 9)))} day {number},{label}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def child(work: Callable[[], None], *, kill_after: float | None = None) -> bool:
    """Do some work in a forked process; whether it came to its end before it was killed.

    Raises:
        RuntimeError: it failed by itself.
    """
    number = os.fork()
    if number == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    begun = time.monotonic()
    while kill_after is None or time.monotonic() - begun < kill_after:
        found, status = os.waitpid(number, os.WNOHANG)
        if found:
            if os.waitstatus_to_exitcode(status):
                raise RuntimeError("The run failed by itself; what it said stands above.")
            return True
        time.sleep(0.01)
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    return False


def go_on(run: Run) -> None:
    """Begin a run or resume it; at its end its weights are in weights.npz."""
    from pipelines.train import resume, train

    begun = (run.out / "run.json").is_file()
    bundle = resume(run.out, progress=False) if begun else train(run, overwrite=True, progress=False)
    np.savez(run.out.with_suffix(".npz"), *bundle.load_model().get_weights())


def weights(run: Run) -> list[np.ndarray]:
    """What `go_on` has written at the end of a run."""
    with np.load(run.out.with_suffix(".npz")) as arrays:
        return [arrays[name] for name in arrays.files]


def place(run: Run) -> str:
    """Where a killed run goes on from."""
    states = sorted(run.out.glob("checkpoints/checkpoint-*/state.json"))
    if not states:
        return "before the first checkpoint" if (run.out / "run.json").is_file() else "before training"
    at = json.loads(states[-1].read_text(encoding="utf-8"))["position"]
    return f"phase {at['phase']}, epoch {at['epoch']}, step {at['step']}"


def crash(kills: int, seed: int, folder: Path, case: str | None = None) -> int:
    """Kill runs until there were so many kills; how many runs ended with other weights than the undisturbed ones."""
    draw = random.Random(seed)
    known: dict[str, tuple[list[np.ndarray], float]] = {}
    done = runs = wrong = 0
    names = [(name, run) for name, run in cases(folder, case).items() if case in (None, name)]
    while done < kills:
        name, run = names[runs % len(names)]
        if name not in known:
            begun = time.monotonic()
            child(lambda run=run: go_on(run))
            known[name] = weights(run), time.monotonic() - begun
        run = replace(run, out=folder / f"run{runs}")
        places = []
        for _ in range(draw.randint(1, 3)):
            if child(lambda run=run: go_on(run), kill_after=draw.uniform(0, known[name][1])):
                break
            places.append(place(run))
        else:
            child(lambda run=run: go_on(run))
        same = all(np.array_equal(*pair) for pair in zip(weights(run), known[name][0], strict=True))
        done, runs, wrong = done + len(places), runs + 1, wrong + (not same)
        print(f"{name}: {'equal' if same else 'DIFFERENT'} after {len(places)} kills: {'; '.join(places)}", flush=True)
    print(f"{runs - wrong} of {runs} runs with {done} kills ended with the weights of undisturbed ones.")
    return wrong


def main() -> None:
    """Kill as often as asked; the exit status is 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", help="One kind of run alone, such as 'images fine_tuning'.")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import pipelines.train  # noqa: F401  # once for all children

    with tempfile.TemporaryDirectory() as folder:
        sys.exit(crash(options.kills, options.seed, Path(folder), options.case) > 0)


if __name__ == "__main__":
    main()
