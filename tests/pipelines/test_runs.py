"""`zoo runs`: folders as training leaves them, finished and not."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pipelines.checkpoints import Checkpoints
from pipelines.commands import runs as module
from pipelines.data import Images, Tables
from pipelines.monitor import Epoch, History
from pipelines.run import Phase, Run

PHASES = (Phase(2, 1e-3), Phase(5, 1e-4, unfreeze="all"))
DIGITS = Images("digits")
ROOT = Path(__file__).parents[2]


def begun(out: Path, *, data=DIGITS, model: str = "resnet18") -> Path:
    out.mkdir(parents=True)
    (out / "run.json").write_text(Run(model, data, PHASES, out).to_json())
    return out


def saved(out: Path, *, phase: int, epoch: int, step: int) -> None:
    position = {"phase": phase, "epoch": epoch, "batch": 3, "step": step, "trained": None}
    Checkpoints(out / "checkpoints").save({"x": np.zeros(1)}, {"position": position})


def history(*losses: float) -> History:
    epochs = [Epoch(1, n, 1e-3, {"loss": 9.0, "val_loss": loss}, 1.0) for n, loss in enumerate(losses, start=1)]
    return History(epochs, min(epochs, key=lambda epoch: epoch.metrics["val_loss"]))


def finished(out: Path, *, val_loss: float, scores: dict, **options) -> Path:
    begun(out, **options)
    (out / "bundle.json").write_text(json.dumps({"best": {"metrics": {"loss": 1.0, "val_loss": val_loss}}}))
    (out / "evaluation.json").write_text(json.dumps(scores))
    return out


def aged(out: Path, seconds: float) -> None:
    for path in (*out.iterdir(), out):
        os.utime(path, (seconds, seconds))


def listed(monkeypatch, folder: Path, **options) -> list[str]:
    """The lines of the table, without its header."""
    stream = io.StringIO()
    monkeypatch.setattr(module, "out", Console(file=stream, width=220))
    module.runs(folder, **options)
    return stream.getvalue().splitlines()[2:]


def test_a_finished_run(tmp_path, monkeypatch):
    finished(tmp_path / "pets", val_loss=0.123456, scores={"kind": "classification", "accuracy": 0.98765})
    (line,) = listed(monkeypatch, tmp_path)
    for part in ("pets", "resnet18", "images digits", "finished", "val_loss 0.1235", "accuracy 0.9877"):
        assert part in line


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ({"kind": "retrieval", "caption_recall": [0.25, 0.5, 1.0], "image_rank": 3.0}, "caption_recall@1 0.25"),
        ({"kind": "generation", "frechet_distance": 1.5, "accuracy": 0.8}, "frechet_distance 1.5"),
        ({"kind": "autoencoding", "elbo": -244.8, "perplexity": 75.5}, "elbo -244.8"),
        ({"kind": "drawing", "image_loss": 3.25, "loss": 3.5}, "image_loss 3.25"),
    ],
)
def test_models_that_make_images_have_scores_of_their_own(tmp_path, monkeypatch, scores, told):
    finished(tmp_path / "mine", val_loss=1.0, scores=scores)
    assert told in listed(monkeypatch, tmp_path)[0]


def test_an_interrupted_run_says_where_it_is(tmp_path, monkeypatch):
    out = begun(tmp_path / "deep" / "er" / "mine", data=Tables("iris", target="species"), model="mlp")
    saved(out, phase=2, epoch=3, step=120)
    (out / "history.json").write_text(history(0.5, 0.25, 0.75).to_json())
    (line,) = listed(monkeypatch, tmp_path)
    assert "deep/er/mine" in line
    assert "tables iris" in line
    assert "interrupted: phase 2/2, epoch 4/5, step 120" in line
    assert "val_loss 0.25" in line


def test_the_state_comes_from_the_newest_checkpoint_that_can_be_read(tmp_path, monkeypatch):
    out = begun(tmp_path / "mine")
    saved(out, phase=1, epoch=0, step=7)
    saved(out, phase=1, epoch=1, step=14)
    (out / "checkpoints" / "checkpoint-000002" / "state.json").write_text("{")
    assert "epoch 1/2, step 7" in listed(monkeypatch, tmp_path)[0]


def test_a_run_whose_process_lives_is_running(tmp_path, monkeypatch):
    out = begun(tmp_path / "mine")
    saved(out, phase=1, epoch=1, step=9)
    with Checkpoints(out / "checkpoints").lock():
        assert "running: phase 1/2, epoch 2/2, step 9" in listed(monkeypatch, tmp_path)[0]
    assert "interrupted: phase 1/2, epoch 2/2, step 9" in listed(monkeypatch, tmp_path)[0]


def test_asking_does_not_keep_the_lock(tmp_path, monkeypatch):
    out = begun(tmp_path / "mine")
    with Checkpoints(out / "checkpoints").lock():
        pass
    listed(monkeypatch, tmp_path)
    with Checkpoints(out / "checkpoints").lock():
        pass


def test_before_the_first_checkpoint_and_after_the_last_phase(tmp_path, monkeypatch):
    begun(tmp_path / "a")
    saved(begun(tmp_path / "b"), phase=3, epoch=0, step=99)
    first, last = listed(monkeypatch, tmp_path, sort=module.Order.name)
    assert "interrupted before its first checkpoint" in first
    assert "interrupted: all 2 phases done" in last


def test_orders(tmp_path, monkeypatch):
    for name, accuracy, age in (("a", 0.5, 3e8), ("b", 0.9, 1e8), ("c", 0.7, 2e8)):
        aged(finished(tmp_path / name, val_loss=1.0, scores={"accuracy": accuracy}), age)
    for name, mae in (("d", 4.0), ("e", 3.0)):
        targets = [{"name": "y", "mae": mae, "r2": 0.5}]
        aged(finished(tmp_path / name, val_loss=1.0, scores={"targets": targets}), 5e7)
    begun(tmp_path / "z")

    def order(sort):
        return [line.split()[0] for line in listed(monkeypatch, tmp_path, sort=sort)]

    assert order(module.Order.when) == ["z", "a", "c", "b", "d", "e"]
    assert order(module.Order.name) == ["a", "b", "c", "d", "e", "z"]
    assert order(module.Order.test) == ["b", "c", "a", "e", "d", "z"]


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"model": 3, "data": 4, "phases": null}', "\xff"])
def test_what_is_damaged_does_not_hide_the_others(tmp_path, monkeypatch, text):
    finished(tmp_path / "good", val_loss=1.0, scores={"accuracy": 0.5})
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_bytes(text.encode("latin-1"))
    (tmp_path / "bad" / "history.json").write_text('{"epochs": [], "best": 4}')
    (tmp_path / "bad" / "evaluation.json").write_text('{"targets": ["odd"], "accuracy": "high"}')
    found = listed(monkeypatch, tmp_path, sort=module.Order.name)
    assert [line.split()[0] for line in found] == ["bad", "good"]


def test_names_in_square_brackets_are_shown(tmp_path, monkeypatch):
    begun(tmp_path / "[red]a[/]")
    assert "[red]a[/]" in listed(monkeypatch, tmp_path)[0]


def test_the_folder_of_one_run(tmp_path, monkeypatch):
    begun(tmp_path / "mine")
    assert listed(monkeypatch, tmp_path / "mine")[0].startswith("mine ")


def test_nothing_to_list(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        module.runs(tmp_path / "none")
    with pytest.raises(ValueError, match="no runs under"):
        module.runs(tmp_path)


def test_it_imports_neither_tensorflow_nor_keras(tmp_path):
    begun(tmp_path / "mine")
    program = (
        "import sys; from pathlib import Path; from pipelines.commands.runs import runs; "
        "runs(Path(sys.argv[1])); assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
