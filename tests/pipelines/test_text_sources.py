"""Reading texts: what is read, and how it is divided."""

import csv
import json

import pytest
import tensorflow_datasets as tfds

from pipelines import text_sources
from pipelines.data import Texts
from pipelines.readers import ordered

ANIMALS = [(f"the {animal} number {number} is here", animal) for animal in ("cat", "dog") for number in range(20)]


def load(source, *, task="classify", seed=0, **options):
    return text_sources.load(Texts(str(source), **options), task=task, seed=seed)


def write(path, rows, header=("text", "label"), **dialect):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, **dialect).writerows([header, *rows])
    return path


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pairs(rows):
    return sorted(zip(rows.texts, rows.labels, strict=True))


def whole(data):
    return sorted(pair for rows in data.rows.values() for pair in pairs(rows))


def test_csv_tsv_and_jsonl_give_the_same(tmp_path):
    sources = (
        write(tmp_path / "a.csv", ANIMALS),
        write(tmp_path / "a.tsv", ANIMALS, delimiter="\t"),
        jsonl(tmp_path / "a.jsonl", [{"text": text, "label": label} for text, label in ANIMALS]),
    )
    found = [load(source) for source in sources]
    assert whole(found[0]) == sorted(ANIMALS)
    for other in found[1:]:
        assert other.classes == ("cat", "dog")
        assert [pairs(other.rows[part]) for part in other.rows] == [
            pairs(found[0].rows[part]) for part in found[0].rows
        ]


def test_the_split_is_stratified_seeded_and_does_not_hang_on_the_order_of_the_rows(tmp_path):
    data = load(write(tmp_path / "a.csv", ANIMALS))
    assert {part: len(rows) for part, rows in data.rows.items()} == {"train": 28, "validation": 6, "test": 6}
    assert all(sorted(set(rows.labels)) == ["cat", "dog"] for rows in data.rows.values())
    backwards = load(write(tmp_path / "b.csv", ANIMALS[::-1]))
    assert pairs(backwards.rows["test"]) == pairs(data.rows["test"])
    assert pairs(load(tmp_path / "a.csv", seed=1).rows["test"]) != pairs(data.rows["test"])


def test_cells_with_separators_quotes_and_line_breaks(tmp_path):
    texts = ['one, two\nthree "four"', "plain", "ü and 日本"]
    rows = [(f"{text} {number}", "ab"[number % 2]) for number, text in enumerate(texts * 4)]
    assert whole(load(write(tmp_path / "a.csv", rows))) == sorted(rows)


def test_quotes_in_a_tsv_without_quoting_are_plain_characters(tmp_path):
    lines = ['"a quote opens\tx', 'it ends" here\ty', 'a 5" disk\tx', '"whole"\ty']
    (tmp_path / "a.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n", encoding="utf-8")
    assert whole(load(tmp_path / "a.tsv", split=(1, 0, 0))) == sorted(tuple(line.split("\t")) for line in lines)
    write(tmp_path / "quoted.tsv", [('say "hi"', "x"), ("b", "y")], delimiter="\t")
    assert whole(load(tmp_path / "quoted.tsv", split=(1, 0, 0))) == [("b", "y"), ('say "hi"', "x")]


def test_documents_longer_than_a_cell_of_pythons_csv(tmp_path):
    rows = [("word " * 40_000 + str(number), "ab"[number % 2]) for number in range(4)]
    assert whole(load(write(tmp_path / "a.csv", rows), split=(1, 0, 0))) == sorted(rows)


def test_numbers_are_class_names_in_the_order_of_their_values(tmp_path):
    rows = [{"text": f"text {number}", "label": number % 11} for number in range(44)]
    assert load(jsonl(tmp_path / "a.jsonl", rows)).classes == tuple(map(str, range(11)))
    truths = [{"text": f"text {number}", "label": number % 2 == 0} for number in range(20)]
    assert load(jsonl(tmp_path / "b.jsonl", truths)).classes == ("false", "true")
    zeros = tuple("0" * count + "7" for count in range(8, -1, -1))  # all of one value
    assert ordered(zeros[::-1]) == ordered(zeros) == zeros


def test_other_columns_and_a_second_text(tmp_path):
    rows = [(number, f"premise {number}", f"guess {number}", "ab"[number % 2]) for number in range(20)]
    path = write(tmp_path / "a.csv", rows, header=("id", "premise", "hypothesis", "verdict"))
    data = load(path, text_column="premise", second_column="hypothesis", label_column="verdict")
    train = data.rows["train"]
    assert all(text.split()[1] == second.split()[1] for text, second in zip(train.texts, train.seconds, strict=True))


def test_lists_of_texts_and_of_pairs(tmp_path):
    texts, labels = zip(*ANIMALS, strict=True)
    data = text_sources.load(Texts.lists(texts, labels, file=tmp_path / "a.jsonl"), task="classify", seed=0)
    assert whole(data) == sorted(ANIMALS)
    both = Texts.lists([(text, "two") for text in texts], labels, file=tmp_path / "b.jsonl")
    assert set(text_sources.load(both, task="classify", seed=0).rows["train"].seconds) == {"two"}


def test_folders_a_class_and_folders_a_part(tmp_path):
    for number, (text, label) in enumerate(ANIMALS):
        part = "test" if number % 4 == 0 else "train"
        for root in (tmp_path / "flat", tmp_path / "parts" / part):
            (root / label).mkdir(parents=True, exist_ok=True)
            (root / label / f"{number}.txt").write_text(text, encoding="utf-8")
    assert whole(load(tmp_path / "flat")) == sorted(ANIMALS)
    divided = load(tmp_path / "parts")
    assert pairs(divided.rows["test"]) == sorted(ANIMALS[::4])
    assert len(divided.rows["train"]) + len(divided.rows["validation"]) == 30
    plain = load(tmp_path / "flat", task="causal_lm", label_column=None)
    assert sorted(text for rows in plain.rows.values() for text in rows.texts) == sorted(text for text, _ in ANIMALS)


def test_a_column_split_divides(tmp_path):
    rows = [(text, label, ("train", "val", "test")[number % 3]) for number, (text, label) in enumerate(ANIMALS)]
    data = load(write(tmp_path / "a.csv", rows, header=("text", "label", "split")))
    assert pairs(data.rows["test"]) == sorted(row[:2] for row in rows if row[2] == "test")


def test_equal_texts_of_one_file_stay_in_one_part(tmp_path):
    rows = ANIMALS + [(text + "  ", label) for text, label in ANIMALS]
    data = load(write(tmp_path / "a.csv", rows))
    parts = [{text.strip() for text in rows.texts} for rows in data.rows.values()]
    assert sum(map(len, parts)) == 40
    assert sum(len(rows) for rows in data.rows.values()) == 80


def test_the_same_text_in_two_given_parts_is_refused(tmp_path):
    train, test = write(tmp_path / "a.csv", ANIMALS), write(tmp_path / "b.csv", [("new", "cat"), ANIMALS[3]])
    with pytest.raises(ValueError, match=r"text of row 5 \(train\) is also row 3 \(test\).*'the cat number 3 is here'"):
        load(train, test=str(test))


def test_tags_answers_and_texts_to_write(tmp_path):
    tagged = write(tmp_path / "tag.csv", [(f"Ann saw {number}", "NAME O O") for number in range(9)])
    data = load(tagged, task="tag")
    assert data.classes == ("NAME", "O")
    assert set(data.rows["train"].labels) == {("NAME", "O", "O")}
    words = [{"text": ["Ann", "saw", str(number)], "label": ["NAME", "O", "O"]} for number in range(9)]
    assert whole(load(jsonl(tmp_path / "tag.jsonl", words), task="tag")) == whole(data)
    asked = [
        {"text": f"it was in {year}.", "question": "when?", "label": [str(year), f"in {year}"]} for year in range(9)
    ]
    answers = load(jsonl(tmp_path / "qa.jsonl", asked), task="answer", second_column="question")
    assert ("3", "in 3") in {label for rows in answers.rows.values() for label in rows.labels}
    assert answers.classes == ()


class TinyReviews(tfds.core.GeneratorBasedBuilder):
    """24 + 6 reviews; one of the test is in train as well. The last label of test is not told."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        kinds = tfds.features.ClassLabel(names=["word", "number"])
        inner = {
            "words": tfds.features.Sequence(tfds.features.Text()),
            "kinds": tfds.features.Sequence(kinds),
        }
        features = {
            "review": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=["bad", "good"]),
            "more": inner,
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 24), "test": self._generate_examples(23, 29)}

    def _generate_examples(self, start, stop):
        for number in range(start, stop):
            label = -1 if number == 28 else number % 2
            words = {"words": ["review", str(number)], "kinds": [0, 1]}
            yield number, {"review": f"review {number}", "label": label, "more": words}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tfds"))
    tfds.builder("tiny_reviews", data_dir=folder).download_and_prepare()
    return folder


def reviews(data_dir, **options):
    values = {"text_column": "review", "test": "test[:5]", "data_dir": data_dir, **options}
    return load("tfds:tiny_reviews", **values)


def test_tfds_columns_and_a_text_that_is_in_two_of_its_splits(data_dir):
    data = reviews(data_dir)
    assert data.classes == ("bad", "good")
    assert pairs(data.rows["test"]) == [(f"review {number}", ("bad", "good")[number % 2]) for number in range(23, 28)]
    trained = [text for part in ("train", "validation") for text in data.rows[part].texts]
    assert sorted(trained) == sorted(f"review {number}" for number in range(23))
    assert len(data.skipped) == 1
    assert "tiny_reviews-train" in data.skipped[0]


def test_tfds_columns_inside_others_and_mistakes(data_dir):
    inner = reviews(data_dir, task="tag", text_column="more/words", label_column="more/kinds")
    assert inner.classes == ("number", "word")
    assert pairs(inner.rows["test"])[0] == ("review 23", ("word", "number"))
    with pytest.raises(ValueError, match=r"no column 'text'.*Columns:.*review"):
        reviews(data_dir, text_column="text")
    with pytest.raises(ValueError, match="1 of 6 rows have no 'label'"):
        reviews(data_dir, test="test")


def test_the_built_in_sentences():
    data = load("sklearn_docs")
    counts = {part: len(rows) for part, rows in data.rows.items()}
    assert sum(counts.values()) > 2000
    assert "cluster" in data.classes
    known = dict(zip(data.rows["train"].texts, data.rows["train"].labels, strict=True))
    assert sum("cluster" in text and label == "cluster" for text, label in known.items()) > 50
