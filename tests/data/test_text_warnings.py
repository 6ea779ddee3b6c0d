"""How much of a text its tokenizer does not know is counted by characters, said, and refused where it is most."""

from __future__ import annotations

import json
import random

import pytest

from bertjax.data.corpus.prepared import open_prepared, prepare
from bertjax.data.corpus.sources import TextList
from bertjax.data.corpus.text_warnings import TextCounts, check_known, text_line, text_warnings
from bertjax.errors import DataError
from bertjax.prepare import main
from bertjax.text import coverage
from bertjax.text.coverage import measure_coverage
from bertjax.text.tokenizer import SentencePieceTokenizer
from bertjax.text.vocabulary import train_tokenizer
from bertjax.text.wordpiece import WORDPIECE_SPECIALS, WordPieceTokenizer

DRAW = random.Random(17)
ENGLISH = [f"The river is {n} miles long and wide. It is old, and so is the town." for n in range(60)]


def drawn(letters, length, lines):
    return ["".join(DRAW.choices(letters, k=length)) for _ in range(lines)]


# Text without spaces, as it comes: Thai, proteins, DNA; made up.
TEXTS = {
    "Thai": drawn("กขคงจชซดตถทนบปพมยรลวสหอะาิีุูเแโใไ", 160, 60),
    "protein": drawn("ACDEFGHIKLMNPQRSTVWY", 350, 40),
    "DNA": drawn("ACGT", 900, 40),
    "hexadecimal": drawn("0123456789abcdef", 200, 40),
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))


def wordpiece(*pieces, **settings):
    return WordPieceTokenizer([*WORDPIECE_SPECIALS, *pieces], **settings)


def test_characters_are_counted_and_not_tokens():
    tokenizer = wordpiece("a", "##b", "the")
    known = measure_coverage(tokenizer, ["the ab zebra a", "ab", "q"])
    assert (known.characters, known.words, known.tokens) == (14, 6, 8)
    assert (known.unknown, known.too_long, known.examples) == (6, 0, ["zebra", "q"])
    assert known.share == 6 / 14


@pytest.mark.parametrize("length", [99, 100, 101, 5000])
def test_words_beyond_the_limit_of_wordpiece(length):
    known = measure_coverage(wordpiece("a", "##a"), [f"a {'a' * length} a"])
    expected = length if length > 100 else 0
    assert (known.unknown, known.too_long) == (expected, expected)


def test_a_large_lot_is_looked_at_in_part():
    """An even part stands for the rest, and the sum is close to what it is."""
    texts = [("q" * (1 + n % 7) + " ab ") * 50 for n in range(2000)]
    known = measure_coverage(wordpiece("a", "##b"), texts)
    exact = sum(text.count("q") for text in texts)
    assert abs(known.unknown / exact - 1) < 0.02
    assert known.characters == sum(len(text.replace(" ", "")) for text in texts)


def test_sentencepiece_knows_all_but_a_model_without_bytes():
    texts = ["the river is wide", "the town is old"] * 20
    spelled = train_tokenizer("sentencepiece", texts, 300, True)
    assert measure_coverage(spelled, ["字 the ☃"]).unknown == 0
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=30, hard_vocab_limit=False, minloglevel=2,
        pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, control_symbols=["[CLS]", "[SEP]", "[MASK]"], unk_piece="[UNK]",
        pad_piece="[PAD]",
    )  # fmt: skip
    known = measure_coverage(SentencePieceTokenizer(model.getvalue()), ["字字 the ☃"])
    assert (known.unknown, known.characters) == (3, 6)


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("vocab_size", [100, 2000])
def test_text_that_is_all_unknown_is_refused_and_the_way_out_works(kind, vocab_size, tmp_path, capsys):
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(TEXTS[kind]), encoding="utf-8")
    command = [f"--input={path}", f"--output={tmp_path / 'out'}", f"--vocab_size={vocab_size}"]
    assert main(command) == 3
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "100.0% of the characters of the corpus are [UNK], such as" in error
    assert "100% of them in words of more than 100 characters" in error
    assert "--config.data.tokenizer=sentencepiece" in error
    assert not (tmp_path / "out").exists()
    flags = error.split("(bertjax.prepare: ")[1].split(")")[0].split(" ")
    assert main([*command, *flags]) == 0
    shown = capsys.readouterr()
    assert "0.00% of the characters are [UNK]" in shown.out and "[UNK]" not in shown.err
    corpus = open_prepared(tmp_path / "out")
    assert corpus.manifest["counts"]["text"]["unknown_characters"] == 0 and corpus.train.num_tokens > 1000


def test_characters_that_a_small_vocabulary_has_no_room_for(tmp_path):
    letters = [chr(0x4E00 + n) for n in range(400)]
    texts = ["".join(DRAW.choices(letters, k=40)) + "。" for _ in range(80)]
    with pytest.raises(DataError, match=r"% of the characters of the corpus are \[UNK\], such as '.'") as error:
        prepare(TextList(texts), vocab_size=200)
    assert "--config.data.tokenizer=sentencepiece --config.model.vocab_size=300" in str(error.value)
    assert "words of more than" not in str(error.value)
    corpus = prepare(TextList(texts), tokenizer="sentencepiece", vocab_size=300)
    assert corpus.manifest["counts"]["text"]["unknown_characters"] == 0


def test_a_few_long_words_are_a_warning_wherever_the_corpus_is_from(tmp_path, capsys):
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(ENGLISH + TEXTS["hexadecimal"][:2]), encoding="utf-8")
    assert main([f"--input={path}", f"--output={tmp_path / 'out'}", "--vocab_size=300"]) == 0
    shown = capsys.readouterr()
    (line,) = [line for line in shown.err.splitlines() if "[UNK]" in line]
    assert line.startswith("warning: ") and "(100% of them in words of more than 100 characters" in line
    assert "data.tokenizer=sentencepiece" in line
    share = 400 / sum(len(text.replace(" ", "")) for text in ENGLISH + TEXTS["hexadecimal"][:2])
    assert f"{share:.2%} of the characters are [UNK]" in shown.out
    for corpus in (open_prepared(tmp_path / "out"), prepare([path], vocab_size=300), prepare([path], vocab_size=300)):
        assert line.removeprefix("warning: ") in text_warnings(corpus)


def test_what_is_said_of_good_text(capsys, tmp_path):
    corpus = prepare(TextList(ENGLISH), vocab_size=300)
    assert text_warnings(corpus) == []
    counts = corpus.manifest["counts"]["text"]
    used = {int(i) for split in (corpus.train, corpus.held_out) for i in split.tokens}
    assert counts["unused_entries"] == 300 - 5 - len(used)
    assert counts["words"] == sum(len(text.split()) for text in ENGLISH)
    assert counts["tokens"] == corpus.manifest["counts"]["tokens"]
    words = f"{counts['tokens'] / counts['words']:.2f} tokens a word, 0.00% of the characters are [UNK]; "
    assert text_line(corpus).startswith(f"{words}{counts['unused_entries']} of 295 entries (")


@pytest.mark.parametrize(
    ("pieces", "settings", "text", "remedy"),
    [
        (["the", "river"], {"lowercase": False}, "THE RIVER The River", "--lowercase=true"),
        (["cafe", "ete"], {"strip_accents": False}, "café été", "--strip_accents=true"),
        (["the", "river"], {}, "zebras quarrel", "--tokenizer=sentencepiece"),
    ],
)
def test_the_fix_for_a_given_tokenizer_is_one_that_helps(pieces, settings, text, remedy, tmp_path):
    from bertjax.text.wordpiece import WordPieceRules

    rules = {"rules": WordPieceRules(strip_accents=settings["strip_accents"])} if "strip_accents" in settings else {}
    tokenizer = wordpiece(*pieces, lowercase=settings.get("lowercase", True), **rules)
    tokenizer.save(tmp_path / "tokenizer")
    with pytest.raises(DataError) as error:
        prepare(TextList([text] * 10), tokenizer=tmp_path / "tokenizer")
    assert remedy in str(error.value)
    # In its folder the files say how it reads, and a key does not change that: the line names the file, too.
    if "tokenizer_config.json" in str(error.value):
        name, path = str(error.value).split('"')[1], tmp_path / "tokenizer" / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {name: True}))
        assert text_warnings(prepare(TextList([text] * 10), tokenizer=tmp_path / "tokenizer")) == []


def test_a_bare_vocabulary_reads_as_the_key_says(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*WORDPIECE_SPECIALS, "the", "river"]))
    with pytest.raises(DataError, match="--lowercase=true"):
        prepare(TextList(["The River"] * 10), tokenizer=tmp_path / "vocab.txt", lowercase=False)
    assert text_warnings(prepare(TextList(["The River"] * 10), tokenizer=tmp_path / "vocab.txt", lowercase=True)) == []


def test_corpora_of_earlier_versions_open_and_are_judged_by_tokens(tmp_path):
    corpus = prepare(TextList(ENGLISH), tmp_path / "c", vocab_size=300)
    manifest = json.loads((corpus.path / "manifest.json").read_text())
    for text in (None, {}, {"characters": "x"}, []):
        if text is None:
            manifest["counts"].pop("text")
            manifest["counts"].pop("damaged")
        else:
            manifest["counts"]["text"] = text
        (corpus.path / "manifest.json").write_text(json.dumps(manifest))
        old = open_prepared(corpus.path)
        assert text_warnings(old) == []
        assert text_line(old).startswith("0.00% of the tokens are [UNK]; ")
        old.token_counts[old.tokenizer.unk_id] = old.token_counts.sum()
        assert "50.0% of the tokens of the corpus are [UNK]" in text_warnings(old)[0]
        with pytest.raises(DataError, match=r"data\.tokenizer=sentencepiece"):
            check_known(TextCounts.of(old), old.tokenizer)


def test_no_more_is_unknown_than_there_is(monkeypatch):
    """Where a part stands for all of it, and texts that are one unknown word each are long and short."""
    monkeypatch.setattr(coverage, "_EXAMINED", 500)
    words = drawn("ACGT", 110, 1)[0], drawn("ACGT", 900, 1)[0]
    found = measure_coverage(wordpiece("the"), [words[i % 7 == 0] for i in range(100)])
    assert found.unknown == found.too_long == found.characters
    mixed = measure_coverage(wordpiece("the"), [f"the {words[i % 5 == 0]}" for i in range(100)])
    assert 0.95 < mixed.share <= 1 and mixed.too_long <= mixed.unknown <= mixed.characters
