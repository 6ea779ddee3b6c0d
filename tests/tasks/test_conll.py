"""CoNLL and CoNLL-U as they are published, and what is said of files that are neither."""

from __future__ import annotations

import lzma

import pytest

from bertjax.errors import DATA, ConfigError, DataError, exit_code
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
    "differing columns": ("a.conll", "a\tO\n\nb\tNN\tO\n", None, r":3: 3 columns, but line 1 has 2"),
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
    "a comment within a sentence": (
        "a.conll",
        "a\tO\n# newpar\nb\tO\n",
        None,
        r":2: the word '# newpar' has no label; .*; a comment must stand before a sentence, after a blank line",
    ),
    "rows of datasets": (
        "a.jsonl",
        '{"tokens": ["a", "b"], "ner_tags": [0, 1]}\n{"tokens": ["c", "d"], "ner_tags": [1, 0]}\n',
        None,
        r":1: JSON, not CoNLL: a line must be a word and its tag",
    ),
    "no blank line between sentences": (
        "a.conllu",
        CONLLU.replace("\n\n", "\n"),
        None,
        r":12: the word has the number '1' instead of 6",
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


# --- Files as people have them ------------------------------------------------------------------------------------


def said(path, content, *columns):
    lines = []
    path.write_text(content)
    examples = read_tagged(path, *columns, warn=lines.append)
    return [(example.words, example.tags) for example in examples], lines


ADA = (("Ada", "saw", "Rome"), ("B-PER", "O", "B-LOC"))


def test_comments_before_a_sentence_are_no_words(tmp_path):
    path = tmp_path / "a.conll"
    content = "# id 0 domain=train\nAda _ _ B-PER\nsaw _ _ O\nRome _ _ B-LOC\n\n# id 1 domain=train\n# O _ O\n"
    found, lines = said(path, content)
    assert found == [ADA, (("#",), ("O",))]
    assert lines == [f"{path}:1: a comment, not a word; 2 such lines of the file are skipped"]


@pytest.mark.parametrize(
    "content",
    [
        "# sent_id = 1\n# text = Ada saw Rome\nAda\tB-PER\nsaw\tO\nRome\tB-LOC\n\n# newdoc\n",
        "#begin document (a); part 000\nAda NN B-PER\nsaw VB O\nRome NN B-LOC\n\n#end document\n",
        "# a = O\nAda NN x B-PER\nsaw VB x O\nRome NN x B-LOC\n",
        "-DOCSTART- -X- O\n\n# doc 1\nAda NN B-PER\nsaw VB O\nRome NN B-LOC\n",
    ],
)
def test_comments_of_all_kinds(content, tmp_path):
    found, lines = said(tmp_path / "a.conll", content)
    assert found == [ADA] and len(lines) == 1 and "a comment, not a word" in lines[0]


@pytest.mark.parametrize(
    "content",
    [
        "#\tO\n#nfl\tO\nRome\tB-LOC\n",
        "#\tSYM\n#nfl\tHT\nRome\tB-LOC\n",  # tags of hashtags alone: columns divided by tabs are words
        "Rome B-LOC\n\n# O\n#nfl O\n",
        "Rome NNP\n\n#nfl HT\n",
        "Rome NNP\n# SYM\n\n# SYM\n",
        "# O\n\n#nfl O\n",
    ],
)
def test_hashtags_stay_words(content, tmp_path):
    found, lines = said(tmp_path / "a.conll", content)
    assert sum(len(words) for words, _ in found) == len([line for line in content.split("\n") if line])
    assert lines == []


@pytest.mark.parametrize("mark", ["\t", " "])
@pytest.mark.parametrize("header", ["word{0}tag", "Token{0}NER_tags", "FORM{0}NE-COARSE", "tokens{0}labels"])
def test_a_header_is_passed_over_and_said(header, mark, tmp_path):
    path = tmp_path / "a.conll"
    names, rows = header.format(mark), f"Ada{mark}B-PER\nsaw{mark}O\nRome{mark}B-LOC\n"
    word, tag = header.split("{0}")
    line = f"{path}:1: a header, not a word; the words are in the column {word!r}, the tags in {tag!r}"
    for gap in ("\n", "\n\n"):
        assert said(path, names + gap + rows) == ([ADA], [line])
    assert said(path, rows) == ([ADA], [])


def test_words_that_a_header_might_hold_are_words(tmp_path):
    assert said(tmp_path / "a.conll", "word NN\ntag NN\n") == ([(("word", "tag"), ("NN", "NN"))], [])
    # Another line has the tag, too.
    assert said(tmp_path / "a.conll", "text ne\nx ne\ny o\n")[0] == [(("text", "x", "y"), ("ne", "ne", "o"))]


def test_columns_by_the_names_of_a_header(tmp_path):
    path = tmp_path / "a.conll"
    rows = "#\tWord\tPOS\tNE\n1\tAda\tNN\tB-PER\n2\tsaw\tVB\tO\n3\tRome\tNN\tB-LOC\n"
    assert said(path, rows)[0] == [ADA]
    assert said(path, rows, "pos")[0] == [(ADA[0], ("NN", "VB", "NN"))]
    assert said(path, rows, "NE", "pos")[0] == [(("NN", "VB", "NN"), ADA[1])]
    with pytest.raises(
        ConfigError, match=r"column = 'ner' must be the number of a column.*a\.conll:1 has '#, Word, POS"
    ):
        said(path, rows, "ner")
    with pytest.raises(ConfigError, match=r"a\.conll:1: not a header, since other lines also have its 'O'"):
        said(path, "Ada O\nsaw O\n", "O")
    with pytest.raises(ConfigError, match=r"column 1 cannot hold both words and tags; choose two of its 2 columns"):
        said(path, "Ada O\nsaw O\n", "1", "1")


INDEXED = "1\tAda\tB-PER\tO\n2\tsaw\tO\tO\n3\tRome\tB-LOC\tO\n\n1\tAda\tB-PER\tO\n2\tleft\tO\tO\n"


def test_the_columns_that_are_named_are_those_that_work(tmp_path):
    path = tmp_path / "a.conll"
    for content, advice, columns in (
        (INDEXED, "text=1 and --config.data.label=2, in evaluate with --columns=1,2", ("2", "1")),
        (INDEXED.replace("\tO\n", "\n"), "text=1, in evaluate with --columns=1,2", (None, "1")),
        (
            "1 Ada NN B-x X\n2 saw VB O X\n",
            "text=1 and --config.data.label=3, in evaluate with --columns=1,3",
            ("3", "1"),
        ),
        ("1 Ada NN\n2 saw VB\n", "text=1, in evaluate with --columns=1,2", (None, "1")),
    ):
        with pytest.raises(DataError, match=f"with --config.data.{advice}$"):
            said(path, content)
        (words, tags), *_ = said(path, content, *columns)[0]
        assert words[:2] == ("Ada", "saw") and len(set(tags)) > 1


@pytest.mark.parametrize(
    "content", [INDEXED, INDEXED.replace("1\t", "0\t").replace("2\t", "1\t").replace("3\t", "2\t")]
)
def test_a_column_that_counts_words_is_no_column_of_words(content, tmp_path):
    path = tmp_path / "a.conll"
    with pytest.raises(
        DataError,
        match=r"a\.conll:1: the words are [01], [12], \.\.\. in every sentence: column 0 counts"
        r" them; choose that of the words, such as 1 \(here 'Ada'\), with --config\.data\.text=1 and ",
    ):
        said(path, content)
    assert said(path, content, "2", "1")[0][0] == ADA
    through = INDEXED.replace("\n\n1\tAda", "\n\n4\tAda").replace("2\tleft", "5\tleft")  # numbered through the file
    with pytest.raises(DataError, match="column 0 counts them"):
        said(path, through)
    assert said(path, through, "2", "1")[0][0] == ADA
    assert said(path, content, None, "0")[0][0][0][2] in ("3", "2")  # who insists
    with pytest.raises(DataError, match=r"a CoNLL-U file must end in \.conllu"):
        said(path, "1\ta\ta\tX\t_\t_\t0\tx\t_\t_\n2\tb\tb\tX\t_\t_\t0\tx\t_\t_\n")


def test_numbers_are_words(tmp_path):
    assert said(tmp_path / "a.conll", "1 O\n\n2 O\n\n3 B-x\n")[0][2] == (("3",), ("B-x",))
    assert said(tmp_path / "a.conll", "1984 B-x\n1985 O\n")[1] == []


def test_sentences_that_no_blank_line_divides_are_seen_by_their_numbers(tmp_path):
    with pytest.raises(
        DataError, match=r"a\.conll:4: the word has number 1 after 3; there must be a blank line between"
    ):
        said(tmp_path / "a.conll", INDEXED.replace("\n\n", "\n"), "2", "1")
    lines = said(tmp_path / "a.conll", "a O\nb B-x\n" * 600)[1]
    assert (
        len(lines) == 1
        and "a.conll:1: the file is one sentence of 1,200 words; there should be a blank line" in lines[0]
    )


def test_tabs_and_blanks_mixed(tmp_path):
    path = tmp_path / "a.conll"
    assert said(path, "Ada\tB-PER\nsaw\tO\nRome   B-LOC\nLyon\tB-LOC\n")[0] == [((*ADA[0], "Lyon"), (*ADA[1], "B-LOC"))]
    assert said(path, "Ada NN B-PER\nsaw VB\tO\nRome\tNN B-LOC\n")[0] == [ADA]
    with pytest.raises(DataError, match=r"a\.conll:2: the word 'New York' has no label"):
        said(path, "Ada\tB-PER\nNew York\n")
    with pytest.raises(
        DataError, match=r"a\.conll:2: the label 'VB O' is two columns; tabs separate those of the file"
    ):
        said(path, "Ada NN\tO\nsaw\tVB O\n")
    assert said(path, "học sinh\tB-x\nđi\tO\n")[0] == [(("học sinh", "đi"), ("B-x", "O"))]


def test_a_blank_line_is_one_of_white_space_of_any_kind(tmp_path):
    found, _ = said(tmp_path / "a.conll", "a\tO\n\xa0\nb\tO\n\u3000 \nc\tO\n")
    assert [words for words, _ in found] == [("a",), ("b",), ("c",)]


def test_every_word_knows_its_line(tmp_path):
    path = tmp_path / "a.conllu"
    example = read(path, CONLLU)[0]
    assert [example.place(word) for word in (0, 1, 2, 4)] == [f"{path}:{line}" for line in (4, 5, 7, 10)]
    assert TaggedExample("sentences[3]", ("a",), ("O",)).place(0) == "sentences[3][0]"
    assert "lines" not in repr(example)  # the fingerprint of a run's data is that of before


def test_words_of_conllu_may_be_lemmas(tmp_path):
    assert read_tagged_words(tmp_path, "lemma")[:2] == ("ir", "nosotros")
    with pytest.raises(ConfigError, match=r"column = 'lema' of a \.conllu file; did you mean 'lemma'"):
        read_tagged_words(tmp_path, "lema")


def read_tagged_words(tmp_path, word):
    (tmp_path / "a.conllu").write_text(CONLLU)
    return read_tagged(tmp_path / "a.conllu", None, word)[0].words


def test_tags_in_the_place_of_words_are_told(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("B-LOC\tParis\nO\tis\n\nO\there\nB-LOC\tRome\nI-LOC\tII\n")
    with pytest.raises(
        DataError, match=r"a\.conll:1: the words are tags, such as 'B-LOC': .*text=1 .*label=0, in eval"
    ):
        read_tagged(path)
    assert read_tagged(path, "0", "1")[0].words == ("Paris", "is")
    path.write_text("O B-LOC\nB O\n")  # a word "O", and one "B", may be words
    assert read_tagged(path)[0].words == ("O", "B")


def test_cells_that_commas_divide_are_told(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Paris,B-LOC\nis,O\n")
    with pytest.raises(DataError, match=r"a\.csv:1: .* a line is a word and its label; tabs or blanks must separate"):
        read_tagged(path)
    path.write_text(path.read_text().replace(",", "\t"))
    assert read_tagged(path)[0].tags == ("B-LOC", "O")


def test_comments_that_follow_the_header_at_once_are_comments(tmp_path):
    """As in the files of HIPE."""
    path, said = tmp_path / "a.tsv", []
    path.write_text("TOKEN\tNE-COARSE\n# document_id = x\n# date = 1890\nParis\tB-loc\nis\tO\n\nhere\tO\n")
    examples = read_tagged(path, warn=said.append)
    assert [example.words for example in examples] == [("Paris", "is"), ("here",)]
    assert len(said) == 2 and "2 such lines" in said[0] and "a header" in said[1]
    path.write_text("TOKEN\tNE-COARSE\n#Paris\tB-loc\nis\tO\n")
    assert read_tagged(path)[0].words == ("#Paris", "is")
