"""The README.md of a bundle: what the model is, how good it is, how to use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.files import write_text
from pipelines.run import Run

_PURPOSE = {"train": "training", "validation": "validation", "test": "test"}


def write(folder: Path) -> None:
    """Write README.md from what lies in a bundle: bundle.json, run.json, evaluation.json, export.json."""
    info = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    run = Run.from_json((folder / "run.json").read_text(encoding="utf-8"))
    sections = [_head(run, info), _training(run, info)]
    for file, section in (("evaluation.json", _scores), ("export.json", _exports)):
        if (folder / file).is_file():
            sections.append(section(json.loads((folder / file).read_text(encoding="utf-8"))))
    sections.append(_use())
    write_text(folder / "README.md", "\n".join(sections))


def _head(run: Run, info: dict[str, Any]) -> str:
    classes = info["classes"]
    shown = ", ".join(f"`{name}`" for name in classes[:20]) + (" and more" if len(classes) > 20 else "")
    start = f"the weights `{run.weights}`" if run.weights else "random weights"
    return (
        f"# {run.model} for {len(classes)} classes\n\n"
        f"A `{run.model}` trained from {start} on `{run.data.source}`.\n"
        f"Classes ({len(classes)}): {shown}.\n\n"
        "Input: RGB images, values 0..255; resizing and normalization are part of the files here.\n"
    )


def _training(run: Run, info: dict[str, Any]) -> str:
    best = info["best"]
    counts = ", ".join(f"{count:,} for {_PURPOSE[part]}" for part, count in info["images"].items())
    lines = ["## Training\n", f"Images: {counts}."]
    if info["skipped"]:
        lines.append(f"Skipped as corrupt: {len(info['skipped'])} ({', '.join(info['skipped'][:5])}).")
    lines += [
        f"Hardware: {info['hardware']}; batch {run.batch}; seed {run.seed}; augmentation `{run.data.augment}`.",
        "",
    ]
    lines += ["| phase | epochs | groups trained | peak learning rate |", "|---|---|---|---|"]
    for number, phase in enumerate(run.phases, start=1):
        lines.append(f"| {number} | {phase.epochs} | {phase.unfreeze} | {phase.learning_rate:.2g} |")
    if best:
        lines.append(f"\nKept: the weights of phase {best['phase']}, epoch {best['epoch']}.")
    return "\n".join(lines) + "\n"


def _scores(scores: dict[str, Any]) -> str:
    top5 = f", top-5 {scores['top5']:.2%}" if scores["top5"] is not None else ""
    summary = f"Accuracy **{scores['accuracy']:.2%}**{top5} on {scores['images']:,} images never trained on."
    lines = [
        f"## Test scores\n\n{summary}\n",
        "| class | precision | recall | F1 | images |",
        "|---|---|---|---|---|",
    ]
    for c in scores["classes"]:
        lines.append(f"| {c['name']} | {c['precision']:.3f} | {c['recall']:.3f} | {c['f1']:.3f} | {c['images']} |")
    return "\n".join(lines) + "\n\n![Confusion matrix](confusion.png)\n"


def _exports(report: dict[str, Any]) -> str:
    lines = [
        "## Files, each compared with the Keras model on real test images\n",
        "| file | MB | largest logit difference | same top-1 | accuracy | ms an image |",
        "|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        accuracy = "" if row["accuracy"] is None else f"{row['accuracy']:.2%}"
        lines.append(
            f"| `{row['file']}` | {row['megabytes']:.2f} | {row['logit_difference']:.2g} | {row['agreement']:.1%} "
            f"| {accuracy} | {row['milliseconds']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _use() -> str:
    return (
        "## Use\n\nFrom this folder; a SavedModel or .tflite file stands in for the dot as well:\n\n```\n"
        "zoo predict . image.png\n"
        "zoo evaluate .\n"
        "zoo fit --run run.json --out ../again\n```\n"
    )
