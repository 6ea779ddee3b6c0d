"""CoNLL and CoNLL-U as they are published, and what is said of files that are neither."""

from __future__ import annotations

import lzma

import pytest

from bertjax.command import DATA, exit_code
from bertjax.data.files import DataError
from bertjax.keys import ConfigError
from bertjax.tasks.conll import read_tagged
from bertjax.tasks.examples import TaggedExample

CONLLU = """\
# sent_id = 1
# text = vámonos al mar
1-2\tvámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tvamos\tir\tVERB\tVB\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\tPP\tCase=Acc\t1\tobj\t_\t_
3-4\tal\t_\t_\t_\t_\t_\t_\t_\t_
3\ta\ta\tADP\tIN\t_\t5\tcase\t_\t_
4\tel\tel\tDET\tDT\t_\t5\tdet\t_\t_
4.1\tgone\tgo\tVERB\tVB\t_\t_\t_\t_\t_
5\tmar\tmar\tNOUN\tNN\t_\t1\tobl\t_\tSpaceAfter=No

# sent_id = 2
1\t#\t#\tSYM\tSYM\t_\t0\troot\t_\t_
"""


def read(path, content, column=None):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_tagged(path, column)


def test_ranges_empty_nodes_and_comments_are_no_words(tmp_path):
    path = tmp_path / "a.conllu"
    assert read(path, CONLLU) == [
        TaggedExample(f"{path}:4", ("vamos", "nos", "a", "el", "mar"), ("VERB", "PRON", "ADP", "DET", "NOUN")),
        TaggedExample(f"{path}:13", ("#",), ("SYM",)),
    ]
    assert read(path, CONLLU, "xpos")[0].tags == ("VB", "PP", "IN", "DT", "NN")
    assert read(path, CONLLU, "feats")[0].tags == ("_", "Case=Acc", "_", "_", "_")
    assert read(tmp_path / "a.conllu.xz", lzma.compress(CONLLU.encode()))[0].words == read(path, CONLLU)[0].words


def test_a_sentence_ends_at_a_blank_line_whatever_blanks_are_in_it(tmp_path):
    examples = read(tmp_path / "a.conll", "@one\tO\r\ntwo\tB-x\r\n\t\r\n \r\n\r\nthree\tI-x")
    assert [(example.words, example.tags) for example in examples] == [
        (("@one", "two"), ("O", "B-x")),
        (("three",), ("I-x",)),
    ]
    assert [example.where.rpartition(":")[2] for example in examples] == ["1", "6"]


def test_columns_divided_by_blanks_and_marks_of_documents(tmp_path):
    content = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n"
    assert read(tmp_path / "a.txt", content)[0].tags == ("B-ORG", "O")
    assert read(tmp_path / "a.txt", content, "1")[0].tags == ("NNP", "VBZ")


def test_words_may_hold_any_character_but_the_divider(tmp_path):
    words = ("#tag", "\ufeff", "a b", "x\u2028y", "\xa0", '"')
    examples = read(tmp_path / "a.conll", "".join(f"{word}\tO\n" for word in words))
    assert [example.words for example in examples] == [words]


BAD = {
    "empty file": ("a.conll", "\n\n", None, r":1: the file is empty"),
    "empty conllu": ("a.conllu", "# text\n\n", None, r":1: the file is empty"),
    "sentence without labels": ("a.conll", "a\tO\n\nb\nc\n", None, r":3: the word 'b' has no label"),
    "file without labels": ("a.conll", "a\nb\n", None, r":1: the word 'a' has no label"),
    "differing columns": ("a.conll", "a\tO\n\nb\tNN\tO\n", None, r":3: 3 columns where line 1 has 2"),
    "empty label": ("a.conll", "a\tO\nb\t\n", None, r":2: the label is empty"),
    "empty word": ("a.conll", "a\tO\n\tO\n", None, r":2: the word is empty"),
    "blank word": ("a.conll", "a\tO\n \tO\n", None, r":2: the word is empty"),
    "no such column": ("a.conll", "a\tO\n", "2", r":1: there is no column 2; the 2 columns"),
    "mixed encodings": ("a.conll", b"caf\xc3\xa9\tO\ncaf\xe9\tO\n", None, r":2: byte 3 of the line, 0xe9"),
    "missing fields": ("a.conllu", "1\ta\tb\tX\n", None, r":1: 4 fields between tabs; CoNLL-U has 10"),
    "conllu sentence without labels": (
        "a.conllu",
        CONLLU + "\n1\ta\ta\t_\t_\t_\t0\troot\t_\t_\n",
        None,
        r":15: the word 'a' has no label in its column upos",
    ),
    "no blank line between sentences": (
        "a.conllu",
        CONLLU.replace("\n\n", "\n"),
        None,
        r":12: the word is numbered '1' where 6 comes next",
    ),
    "conllu word that is empty": ("a.conllu", "1\t\ta\tX\t_\t_\t0\troot\t_\t_\n", None, r":1: the word is empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_with_their_line(name, tmp_path):
    file, content, column, message = BAD[name]
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / file, content, column)
    assert str(caught.value).startswith(f"{tmp_path / file}:") and "\n" not in str(caught.value)
    assert exit_code(caught.value) == DATA


def test_columns_that_cannot_be_meant(tmp_path):
    with pytest.raises(ConfigError, match=r"did you mean 'upos'"):
        read(tmp_path / "a.conllu", CONLLU, "upo")
    with pytest.raises(ConfigError, match="must be the number of a column"):
        read(tmp_path / "a.conll", "a\tO\n", "upos")
