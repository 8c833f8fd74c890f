"""The README.md of a bundle: what the model is, how good it is, how to use it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.data import AnyData, Images, Pairs, Series, Tables, Texts
from pipelines.files import write_text
from pipelines.run import Run

PICTURES = "pictures"  # of what the model makes, in a run's folder
RATES = "learning_rates.png"  # a picture of them, in a run's folder
_PURPOSE = {"train": "training", "validation": "validation", "test": "test"}
_SHARES = (("agreement", 1), ("accuracy", 2))  # of an exported file, and the digits of their percentages
_LATENTS = "latents from a normal distribution, beside labels where there are classes. Output: images, values 0..255."
_GOAL = {
    "contrast": "comparing images with texts",
    "answer": "finding answers in texts",
    "masked_lm": "guessing masked tokens",
    "causal_lm": "saying the next token",
    "seq2seq": "writing a text from another",
    "text_to_image": "drawing images after texts",
    "generate": "making images",
    "reconstruct": "encoding images and giving them back",
    "caption": "captions of images",
}


def write(folder: Path) -> None:
    """Write README.md from what lies in a bundle: bundle.json, run.json, evaluation.json, export.json."""
    info = _read(folder / "bundle.json")
    run = Run.from_json((folder / "run.json").read_text(encoding="utf-8"))
    sections = [_head(run, info), _training(run, info)]
    if (folder / RATES).is_file():
        sections.append(f"![Learning rate of each group]({RATES})\n")
    sections += [f"![{path.stem}]({PICTURES}/{path.name})\n" for path in sorted(folder.glob(f"{PICTURES}/final*.png"))]
    if (folder / "evaluation.json").is_file():
        sections.append(_scores(folder / "evaluation.json", run))
    if (folder / "export.json").is_file():
        sections.append(_exports(_read(folder / "export.json")))
    for path in sorted(folder.glob("*/export.json")):
        sections.append(_exports(_read(path), within=f"{path.parent.name}/"))
    sections.append(_use(run, info))
    write_text(folder / "README.md", "\n".join(sections))


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _head(run: Run, info: dict[str, Any]) -> str:
    start = f"the weights `{run.weights}`" if run.weights else "random weights"
    start = "its own weights" if run.is_checkpoint else start
    lines = [f"# {run.model} for {_goal(info)}", "", f"A `{run.model}` trained from {start} on `{run.data.source}`."]
    for what, names in (("Classes", info["classes"]), ("Targets", info.get("targets", []))):
        if names:
            lines.append(f"{what} ({len(names)}): {_listed(names)}.")
    made = info.get("task") == "generate"
    if info.get("task") == "caption" and getattr(run.data, "prompt", ""):
        lines += ["", f"Captions begin with {run.data.prompt!r}, which it is not asked to write."]  # type: ignore[union-attr]
    lines += ["", f"Input: {_LATENTS if made else _input(run.data)}"]
    if run.drawing is not None:
        lines.append(
            f"Output: codes of the autoencoder `{run.drawing.codes_from}`, which `encoder.keras` here makes of images "
            "and `decoder.keras` turns into them."
        )
    if info.get("task") == "multi_label":
        lines.append("Output: a logit a class; its sigmoid is the probability that the image has the label.")
    return "\n".join([*lines, ""])


def _goal(info: dict[str, Any]) -> str:
    task, classes, targets = info.get("task", "classify"), info["classes"], info.get("targets", [])
    if task == "multi_label":
        return f"{len(classes)} labels, any number of them an image"
    if task == "tag":
        return f"tagging with {len(classes)} tags"
    if task in ("regress", "forecast"):
        return f"{'predicting' if task == 'regress' else 'forecasting'} {', '.join(targets[:3])}" + (
            " and more" if len(targets) > 3 else ""
        )
    return _GOAL.get(task, f"{len(classes)} classes")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names[:20]) + (" and more" if len(names) > 20 else "")


def _input(data: AnyData) -> str:
    match data:
        case Texts():
            pair = f", beside a second one (`{data.second_column}`)" if data.second_column else ""
            return f"texts (`{data.text_column}`){pair}, as token ids; `tokenizer.json` here makes them."
        case Tables():
            return f"the columns of a row other than `{data.target}`; standardizing them is part of the model."
        case Series():
            columns = data.columns or data.target
            return (
                f"{data.window} time steps of {_listed(columns)}, in their own units; standardizing them is part of "
                f"the model. Output: the next {data.horizon} of {_listed(data.target)}."
            )
        case Pairs():
            return (
                "RGB images, values 0..255, resized and normalized as part of the files here, and texts as token ids; "
                "`tokenizer.json` here makes them."
            )
        case _:
            return "RGB images, values 0..255; resizing and normalization are part of the files here."


def _training(run: Run, info: dict[str, Any]) -> str:
    unit, best = run.data.unit, info["best"]
    counts = ", ".join(f"{count:,} for {_PURPOSE[part]}" for part, count in info[unit].items())
    lines = ["## Training\n", f"{unit.capitalize()}: {counts}."]
    if info["skipped"]:
        lines.append(f"Skipped, for they cannot be read: {len(info['skipped'])} ({', '.join(info['skipped'][:5])}).")
    augmentation = f"; augmentation `{run.data.augment}`" if isinstance(run.data, Images) else ""
    loss = f"; loss `{run.loss}`" if run.loss else ""
    lines += [f"Hardware: {info['hardware']}; batch {run.batch}; seed {run.seed}{augmentation}{loss}."]
    lines += [f"Optimizer: {run.optimization.summary()}.", *_teacher(run, info)]
    lines += [f"Adversary: {run.adversary.summary()}."] if run.adversary else []
    lines += [f"Autoencoding: {run.autoencoding.summary()}.", ""] if run.autoencoding else [""]
    lines += ["| phase | epochs | groups trained | peak learning rate |", "|---|---|---|---|"]
    for number, phase in enumerate(run.phases, start=1):
        trained = f"{phase.unfreeze}, by LoRA of rank {phase.lora}" if phase.lora else phase.unfreeze
        lines.append(f"| {number} | {phase.epochs} | {trained} | {phase.learning_rate:.2g} |")
    lines += [f"\n{note}" for note in info.get("notes", ())]
    if best:
        lines.append(f"\nKept: the weights of phase {best['phase']}, epoch {best['epoch']}.")
    return "\n".join(lines) + "\n"


def _teacher(run: Run, info: dict[str, Any]) -> list[str]:
    """Who taught the model, how, and how alike they are."""
    known = info.get("teacher")
    if run.distillation is None or known is None:
        return []
    told = f"`{run.distillation.teacher}`" + (
        f", a `{known['name']}`" if known["name"] != run.distillation.teacher else ""
    )
    lines = [f"Teacher: {told} of {known['parameters']:,} weights; {run.distillation.summary()}."]
    lines += [f"Features compared (student=teacher): {', '.join(known['pairs'])}."] if known["pairs"] else []
    lines += [f"The teacher's own test: {known['score']}"] if known["score"] else []
    if "agreement" in known:
        lines.append(f"On the test {run.data.unit} {known['agreement']:.2%} of the answers are the teacher's.")
    if "teacher_mae" in known:
        lines.append(
            f"On the test {run.data.unit} the answers differ by {known['teacher_mae']:.4g} from the teacher's."
        )
    lines += [f"Note: the teacher {known['split']}, so that the test may flatter."] if known["split"] else []
    return lines


def _scores(path: Path, run: Run) -> str:
    from pipelines.objectives import read_scores

    return f"## Test scores\n\n{read_scores(path.read_text(encoding='utf-8')).section(run.data.unit)}"


def _exports(report: dict[str, Any], *, within: str = "") -> str:
    unit = report.get("unit", "image")  # images were the first that could be exported
    shown = {"series": "real test series", "latent": "random latents"}.get(unit, f"real test {unit}s")
    lines = [
        f"## Files{f' of the {within[:-1]}' if within else ''}, each compared with the Keras model on {shown}\n",
        f"| file | MB | largest difference | same choice | accuracy | ms a{'n' if unit == 'image' else ''} {unit} |",
        "|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        shares = ("" if row[name] is None else f"{row[name]:.{digits}%}" for name, digits in _SHARES)
        name = f"{within}{row['file']}"
        lines.append(
            f"| `{name}` | {row['megabytes']:.2f} | {row['logit_difference']:.2g} | {' | '.join(shares)} "
            f"| {row['milliseconds']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _use(run: Run, info: dict[str, Any]) -> str:
    commands = ["zoo evaluate .", "zoo fit --run run.json --out ../again"]
    intro = "From this folder"
    if info.get("task") == "text_to_image":
        commands.insert(0, 'zoo sample . "a text" --count 9 --guidance 3')
    elif isinstance(run.data, Images) and info.get("task") == "generate":
        commands.insert(0, "zoo sample . --count 64")
    elif isinstance(run.data, Images) and info.get("task") == "reconstruct":
        commands.insert(0, "zoo reconstruct . image.png")
    elif isinstance(run.data, Images):
        intro += "; a SavedModel or .tflite file stands in for the dot as well"
        commands.insert(0, "zoo predict . image.png")
    elif info.get("task") == "contrast":
        commands.insert(0, 'zoo search . "a text" --images FOLDER')
        commands.insert(0, 'zoo predict . image.png --zero-shot "a photo of a {}" --class cat --class dog')
    elif info.get("task") == "caption":
        commands.insert(0, "zoo caption . image.png --beams 3")
    elif isinstance(run.data, Texts) and info.get("task") in ("classify", "tag"):
        commands.insert(0, 'zoo predict . "a text"')
    listing = "\n".join(commands)
    return f"## Use\n\n{intro}:\n\n```\n{listing}\n```\n"
