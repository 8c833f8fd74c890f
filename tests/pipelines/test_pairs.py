"""Images with captions: how they are divided, what is in a batch, and what is refused."""

from __future__ import annotations

import itertools
import json
import shutil

import numpy as np
import pytest

import zoo
from pipelines import datasets, pair_sources
from pipelines.creation import create
from pipelines.data import Pairs
from pipelines.recipes import from_scratch
from pipelines.run import Run
from tests.pipelines import shapes

TINY = {
    **{"patch": 8, "width": 8, "depth": 1, "heads": 1, "mlp_width": 8, "projection": 4, "length": 16},
    **{"text_width": 8, "text_depth": 1, "text_heads": 1, "text_mlp_width": 8},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 images of 3 captions each."""
    return shapes.write(tmp_path_factory.mktemp("shapes"), captions=3, size=16).parent


def run_of(source, *, overrides=TINY, out="unused", **options):
    settings = {"size": 16, "vocabulary": 200, **options}
    return Run("clip_vit_base32", Pairs(str(source), **settings), from_scratch(), out, overrides=overrides)


def load(source, **options):
    return datasets.load(run_of(source, **options))


def test_all_captions_of_an_image_are_in_one_part_and_other_seeds_divide_otherwise(folder):
    data = load(folder)
    parts = {part: set(data.captions[part].names) for part in pair_sources.PARTS}
    assert {part: len(names) for part, names in parts.items()} == {"train": 17, "validation": 3, "test": 4}
    assert not any(one & other for one, other in itertools.combinations(parts.values(), 2))
    assert {part: len(captions) for part, captions in data.parts.items()} == {"train": 51, "validation": 9, "test": 12}
    again, other = (pair_sources.load(Pairs(str(folder)), seed=seed)[0]["test"].names for seed in (0, 1))
    assert (set(again), set(other) == parts["test"]) == (parts["test"], False)


def test_the_same_picture_under_two_names_is_in_one_part(folder, tmp_path):
    rows = []
    for number in range(12):
        for copy in "ab":
            shutil.copy(folder / f"images/{number:03d}.png", tmp_path / f"{copy}{number}.png")
            rows.append((f"{copy}{number}.png", f"picture {number}"))
    parts, _ = pair_sources.load(Pairs(str(shapes.table(tmp_path / "c.csv", rows)), split=(0.5, 0.25, 0.25)), seed=0)
    numbers = [{name[1:] for name in parts[part].names} for part in pair_sources.PARTS]
    assert sum(map(len, numbers)) == 12


def test_a_batch_holds_images_and_the_tokens_of_their_captions(folder):
    data = load(folder, augment="none")
    model = create(run_of(folder), data)
    batch = next(data.evaluation_set(model, "test", batch=5).as_numpy_iterator())
    rows = data.captions["test"]
    texts = [
        data.tokenizer.decode(ids[mask == 1])
        for ids, mask in zip(batch["token_ids"], batch["padding_mask"], strict=True)
    ]
    assert texts == list(rows.texts[:5])
    assert len(set(rows.numbers[:4])) == 4  # of four images the first captions come first
    assert batch["image_number"].tolist() == rows.numbers[:5].tolist()
    from PIL import Image

    assert np.abs(batch["image"][0] - np.asarray(Image.open(rows.images[0]))).max() == 0
    assert model({name: batch[name] for name in ("image", "token_ids", "padding_mask")})["logits"].shape == (5, 5)


def test_batches_hang_on_seed_and_number_alone(folder):
    data = load(folder)
    model = create(run_of(folder), data)

    def batch(number, seed):
        feed = data.training_set(model, batch=8, seed=seed)
        return next(feed.start(number).as_numpy_iterator())

    first, again, other = batch(7, 3), batch(7, 3), batch(7, 4)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["image"], other["image"])
    feed = data.training_set(model, batch=8, seed=3)
    assert np.array_equal(list(itertools.islice(feed.start(0).as_numpy_iterator(), 8))[7]["image"], first["image"])
    rows = next(iter(feed.numbers(7).as_numpy_iterator()))
    assert data.captions["train"].numbers[rows].tolist() == first["image_number"].tolist()


@pytest.mark.parametrize("layout", ["hub", "parts", "lists"])
def test_other_layouts_are_read_alike(folder, tmp_path, layout):
    rows = [(f"images/{number:03d}.png", [f"one {number}", f"another {number}"]) for number in range(20)]
    if layout == "hub":
        shutil.copytree(folder / "images", tmp_path / "images")
        lines = [json.dumps({"file_name": name, "text": text}) for name, texts in rows for text in texts]
        (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    for part, chosen in (("train", rows[:12]), ("val", rows[12:16]), ("test", rows[16:])) if layout == "parts" else ():
        shutil.copytree(folder / "images", tmp_path / part / "images")
        found = [(name, text) for name, texts in chosen for text in texts]
        shapes.table(tmp_path / part / "captions.csv", found)
    if layout == "lists":
        source = Pairs.lists([folder / name for name, _ in rows], [t for _, t in rows], file=tmp_path / "c.jsonl")
    else:
        source = Pairs(str(tmp_path))
    if layout == "parts":  # the copies of an image are in no two parts
        for part, numbers in (("train", range(12)), ("val", range(12, 16)), ("test", range(16, 20))):
            for path in (tmp_path / part / "images").iterdir():
                if int(path.stem) not in numbers:
                    path.unlink()
    parts, _ = pair_sources.load(source, seed=0)
    assert sum(map(len, parts.values())) == 40
    whole = {
        (name.rpartition("/")[2], text)
        for found in parts.values()
        for name, text in zip(found.names, found.texts, strict=True)
    }
    assert whole == {(name.rpartition("/")[2], text) for name, texts in rows for text in texts}


def test_a_run_on_pairs_is_read_back_from_json(folder):
    run = run_of(folder, split=(0.5, 0.25, 0.25), flip=True, image_column="a")
    assert Run.from_json(run.to_json()).data == run.data


MISTAKES = [
    ([("images/000.png", "a"), ("images/nowhere.png", "b")], {}, FileNotFoundError, r"row 3 \(images/nowhere.png\)"),
    ([("images/000.png", "a"), ("images/001.png", "  ")], {}, ValueError, r"'caption' is empty in 1 of 2 rows: row 3"),
    ([("", "a")], {}, ValueError, r"'image' is empty in 1 of 1 rows: row 2"),
    ([("images/000.png", "a")], {"text_column": "captoin"}, ValueError, r"no column 'captoin'. Did you mean 'caption'"),
    ([("images/000.png", "a"), ("bad.png", "b")], {}, ValueError, r"cannot be decoded: bad.png \(row 3\).*--skip-corr"),
    ([("images/000.png", "a")] * 3, {}, ValueError, r"too few images to split: none of 1 is left for validation"),
]


@pytest.mark.parametrize(("rows", "options", "kind", "message"), MISTAKES)
def test_a_mistake_is_named_with_its_row(folder, tmp_path, rows, options, kind, message):
    shutil.copytree(folder / "images", tmp_path / "images")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(kind, match=message):
        pair_sources.load(Pairs(str(shapes.table(tmp_path / "c.csv", rows)), **options), seed=0)


def test_corrupt_images_are_left_out_if_asked(folder, tmp_path):
    shutil.copytree(folder / "images", tmp_path / "images")
    (tmp_path / "images" / "003.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    rows = [(f"images/{number:03d}.png", "words") for number in range(12)]
    source = Pairs(str(shapes.table(tmp_path / "c.csv", rows)), skip_corrupt=True)
    parts, skipped = pair_sources.load(source, seed=0)
    assert (sum(map(len, parts.values())), skipped) == (11, ("images/003.png (row 5)",))


def test_an_image_in_two_given_parts_is_refused(folder):
    with pytest.raises(ValueError, match=r"is also in train.*All captions of an image belong into one part"):
        pair_sources.load(Pairs(str(folder), test=str(folder)), seed=0)


def test_a_caption_that_is_too_long_is_refused_or_cut(folder, tmp_path):
    shutil.copytree(folder / "images", tmp_path / "images")
    rows = [(f"images/{number:03d}.png", "red " * (30 if number == 5 else 3)) for number in range(12)]
    path = shapes.table(tmp_path / "c.csv", rows)
    with pytest.raises(ValueError, match=r"1 of \d+ captions have more than the 16 tokens.*row 7.*--length 16"):
        load(path)
    cut = load(path, length=8)
    batches = [
        batch
        for part in pair_sources.PARTS
        for batch in cut.evaluation_set(create(run_of(path), cut), part, batch=4).as_numpy_iterator()
    ]
    ends = [ids[mask.sum() - 1] for b in batches for ids, mask in zip(b["token_ids"], b["padding_mask"], strict=True)]
    assert max(batch["padding_mask"].sum(axis=1).max() for batch in batches) == 8
    assert set(ends) == {cut.vocabulary.end}  # which stands for the whole text


def test_a_model_without_texts_or_images_is_refused(folder):
    with pytest.raises(ValueError, match="takes no texts"):
        datasets.load(Run("mobilenet_v2", Pairs(str(folder)), from_scratch(), "unused"))
    with pytest.raises(ValueError, match="no task for images with captions"):
        datasets.load(Run("bert_tiny", Pairs(str(folder)), from_scratch(), "unused"))


def test_the_end_of_a_trained_tokenizer_is_where_clip_reads_the_text(folder):
    data = load(folder)
    options = data.options()
    assert (options["vocabulary"], options["end"]) == (data.vocabulary.size, data.vocabulary.end)
    model = zoo.create("clip_vit_base32", task="contrast", **{**options, **TINY})
    assert next(layer for layer in model.layers if layer.name == "text.head_token").end == data.vocabulary.end
