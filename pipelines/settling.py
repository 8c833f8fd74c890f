"""How a run is done where it does not say: what is usual for its model, written down in its run.json."""

from __future__ import annotations

import dataclasses

from pipelines import adversary, tasks
from pipelines.optimization import USUAL, Optimization
from pipelines.run import Images, Run
from pipelines.tasks import UNLABELLED


def usual_optimization(model: str) -> Optimization:
    """How the weights of a model are usually moved."""
    return adversary.optimization(model) if tasks.usual(model) == "generate" else USUAL


def settled(run: Run) -> Run:
    """The run with what it leaves open: that images which are imitated stay as they are, and how a GAN is trained.

    Once more changes nothing.

    Raises:
        ValueError: what it says is not for its task.
    """
    if run.task in UNLABELLED and isinstance(run.data, Images) and run.data.augment == "light":
        # what is made looks like what was shown: other colors would be learned too
        run = dataclasses.replace(run, data=dataclasses.replace(run.data, augment="none"))
    if run.task in UNLABELLED and isinstance(run.data, Images) and (run.data.mixup or run.data.cutmix):
        raise ValueError(
            f"Images(mixup={run.data.mixup:g}, cutmix={run.data.cutmix:g}) mixes images, and a model for "
            f"task={run.task!r} would learn to make mixed ones. Set both to 0."
        )
    if run.task != "generate":
        if run.adversary is not None:
            raise ValueError(f"Run(adversary=...) is for GANs, task='generate', not for {run.model!r}.")
        return run
    return _against_an_adversary(run)


def _against_an_adversary(run: Run) -> Run:
    for phase in run.phases:
        if phase.unfreeze != "all" or phase.lora:
            raise ValueError(
                "A GAN is trained as a whole, since generator and discriminator keep up with one another: "
                "Phase(unfreeze='all'), as in the recipe adversarial."
            )
    if run.hardware.accumulate > 1:
        raise ValueError("A GAN's batches are not divided: set Hardware(accumulate=1), and a smaller batch.")
    if run.optimization.schedule == "plateau":
        raise ValueError("Optimization(schedule='plateau') waits for a loss to fall, and those of a GAN do not.")
    chosen = run.adversary or adversary.usual(run.model)
    phases = tuple(dataclasses.replace(each, discriminator_rate=chosen.discriminator_rate) for each in run.phases)
    moved = adversary.optimization(run.model) if run.optimization == USUAL else run.optimization
    return dataclasses.replace(run, adversary=chosen, phases=phases, optimization=moved)
