"""What a user may get wrong about a source of texts, and what the message must say."""

import pytest

from tests.pipelines.test_text_sources import ANIMALS, load, write


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,x\nb,y,z\n", r"a\.csv', row 3: 3 cells where the header has 2 \(text, label\)"),
        ('text,label\n"a\nb",x\nc\n', r"row 3 \(line 4\): 1 cells"),
        ("text,kind\na,x\n", r"no column 'label'.*Columns: text, kind"),
        ("texts,label\na,x\n", r"no column 'text'\. Did you mean 'texts'\?"),
        ("text,label\na,x\n ,y\nb,x\n", r"text in column 'text' is empty in 1 of 3 rows: row 3"),
        ("text,label\na,x\nb,\n", r"row 3: column 'label' is empty"),
        ("text,label\na,x\nb,x\n", "at least two classes"),
        ("text,label\na,x\nb,y\n", "too few texts to split: none of 2"),
        ("text,label\n", "has no rows"),
        ("", "has no rows"),
        ("text,text\na,b\n", "must name the columns, each once"),
        ('text,label\n"a"b,x\n', "line 2: "),
        ('text,label\n"a,x\n', "unexpected end"),
        ("text,label,split\na,x,dev\n", r"row 2: split 'dev' is none of train"),
        ("text,label,split\na,x,test\n", "nothing to train on"),
    ],
)
def test_what_is_wrong_with_a_csv_is_said_with_its_place(tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a", "label": "x"}\n{"text": "b", "label"}\n', r"a\.jsonl', line 2 is not JSON"),
        ('["a", "x"]\n', "line 1 must be a JSON object"),
        ('{"text": "a", "label": "x"}\n\n{"text": "b"}\n', r"1 of 2 rows have no 'label': line 3"),
        ('{"text": "a", "label": null}\n', "1 of 1 rows have no 'label': line 1"),
        ('{"text": ["a"], "label": "x"}\n', r"holds no text in 1 rows: line 1"),
        ('{"text": "a", "label": ["x"]}\n', r"line 1: column 'label' must hold one class"),
    ],
)
def test_what_is_wrong_with_a_jsonl_is_said_with_its_line(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("tag", ("two words", "O"), r"a tag for each of the 2 words.*holds 1 tags"),
        ("answer", ("it was in 1066", "1067"), "row 2: column 'label' must hold a part of the text.*'1067' is none"),
        ("seq2seq", ("a", " "), "the text to write"),
        ("regress", ("a", "1.5"), "no task 'regress'"),
    ],
)
def test_labels_that_do_not_fit_their_text(tmp_path, task, row, message):
    path = write(tmp_path / "a.csv", [(*row, "?")], header=("text", "label", "question"))
    with pytest.raises(ValueError, match=message):
        load(path, task=task, second_column="question" if task == "answer" else None)


def test_an_unknown_label_in_another_part_names_its_row(tmp_path):
    train, test = write(tmp_path / "a.csv", ANIMALS), write(tmp_path / "b.csv", [("new", "cat"), ("newer", "cow")])
    with pytest.raises(ValueError, match=r"row 3 \(test\) has the label 'cow'.*Known classes: cat, dog"):
        load(train, test=str(test))


def test_other_encodings_and_kinds_of_file(tmp_path):
    (tmp_path / "latin.csv").write_bytes("text,label\na,x\nk\xe4se,y\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.csv', line 3: the byte 0xe4 is not UTF-8"):
        load(tmp_path / "latin.csv")
    (tmp_path / "wide.csv").write_text("text,label\na,x\n", encoding="utf-16")
    with pytest.raises(ValueError, match="UTF-16 is not UTF-8"):
        load(tmp_path / "wide.csv")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv.*jsonl"):
        load(tmp_path / "nowhere.csv")
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"neither a folder nor a \.csv, \.tsv, \.jsonl"):
        load(tmp_path / "a.xlsx")
    (tmp_path / "folder" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"no \.txt file in the class folders cat"):
        load(tmp_path / "folder")


def test_columns_that_a_task_needs(tmp_path):
    path = write(tmp_path / "a.csv", ANIMALS)
    for options, message in (
        ({"label_column": None}, "needs a column to learn from"),
        ({"task": "answer"}, "needs the column of the questions"),
        ({"task": "masked_lm", "second_column": "label"}, "read one text a row"),
    ):
        with pytest.raises(ValueError, match=message):
            load(path, **options)
