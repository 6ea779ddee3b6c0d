"""Hard cases of sentence splitting: "|" marks where a sentence ends and the next begins."""

from __future__ import annotations

import random
import time

import pytest

from bertjax.text.sentences import MAX_SENTENCE_CHARACTERS, split_sentences

CASES = [
    # Plain
    "It rained.|We stayed at home.",
    "Is it true?|Yes!|I saw it myself.",
    "No full stop at the end",
    "Really?!|Nobody knew.",
    # Titles and names
    "Mr. Smith met Mrs. Jones.|They talked.",
    "Dr. Watson and Prof. Moriarty were there.|So was Lt. Col. Moran.",
    "St. Paul lies on the river.",
    "He asked Gen. Lee.|Gen. Lee said nothing.",
    "The Rev. Martin Luther King Jr. spoke.|The crowd listened.",
    "Martin Luther King Jr. was born in 1929.",
    "Messrs. Brown and Green signed.",
    "It was sold to Sir J. Reynolds and Capt. Cook.",
    # Initials
    "Harry S. Truman won.|Nobody expected it.",
    "J. R. R. Tolkien wrote it.|He was a professor.",
    "J. Edgar Hoover ran it.",
    "George W. Bush spoke first.",
    "We chose plan B. The other one was too dear.".replace("B. The", "B.|The"),
    "The grade was an A. It surprised everyone.".replace("A. It", "A.|It"),
    # Acronyms with full stops
    "He lives in the U.S. Supreme Court cases bore him.",
    "He moved to the U.S.|The job was better there.",
    "She works for the U.N. Security Council.",
    "Washington, D.C. is the capital.",
    "It begins at 5 p.m. Monday.",
    "It began at 5 p.m.|He came late.",
    "The U.S. and the U.K. agreed.",
    "She has a Ph.D. in physics.|Her sister does not.",
    "She finished her Ph.D.|She then moved to Rome.",
    # Abbreviations inside a sentence
    "Some animals, e.g. Dogs and cats, are pets.",
    "That is, i.e. the first one, was wrong.",
    "Smith et al. showed it.|This was new.",
    "Apples, pears, etc. are fruit.",
    "They sold apples, pears, etc.|The shop closed at noon.",
    "Apple Inc. announced it.|The price rose.",
    "Warner Bros. Pictures made it.",
    "Smith & Co. Ltd. was founded in 1901.",
    "Compare vol. 3 and pp. 12 to 14.",
    "See Fig. 3 and Eq. 4.|They agree.",
    "See No. 10 Downing Street.",
    "He said no.|Then he left.",
    "It cost approx. 20 dollars.",
    "Brown vs. Board of Education changed it.",
    "It was founded ca. 1200 near Mt. Everest.",
    "On Jan. 5 it snowed.|On Feb. 6 it rained.",
    "He lived on Fifth Ave. near the park.",
    # Numbers
    "It grew by 3.5 percent.|That is much.",
    "Version 2.0.1 is out.|Install it.",
    "It happened in 1999.|The next year was quiet.",
    "He bought 4.|Three were broken.",
    "The price was $5.|6 were sold.",
    "1. Introduction",
    "2. The method is simple.|It has two steps.",
    "IV. The return of the king",
    "The address is 192.168.0.1.|Use it.",
    # Quotes and brackets
    '"I am tired." She sat down.'.replace('" She', '"|She'),
    '"Who is it?" he asked.|"It is I."',
    '"Stop!" cried the man.|Nobody stopped.',
    "He said, “I know.”|Then he went.",
    "‘Yes.’ said Tom.",
    "(It was late.)|They went home.",
    "He left (it was late).|They stayed.",
    "«C’est vrai.»|Il partit.",
    'She called it "odd."|He did not.',
    "She wrote (see p. 5) a book.|It sold.",
    '"Oh! how delightful!" cried several ladies at once.',
    'He asked, "Why?"|"Because," she said.',
    # Ellipses and dashes
    "He waited ... and waited.",
    "He waited...|Then he left.",
    "Well… I do not know.".replace("… I", "…|I"),
    "He thought . . . and thought.",
    "“Who?” — he said.",
    "She stopped.|– Why?",
    # Marks inside words and addresses
    "Visit www.example.com today.|It is free.",
    "Write to a.b@example.org.|We answer.",
    "Use numpy.array for it.|It copies.",
    "The file README.md is short.|Read it.",
    "Yahoo! is a company.",
    # Other scripts
    "今天天气很好。|我们去公园吧！|好吗？",
    "彼は「行く。」と言った。|私は残った。".replace("。」と", "。」|と"),
    "यह सच है।|वह गया।",
    "Это правда.|Он ушёл.",
    "Ήρθε.|Έφυγε.",
    "هل هذا صحيح؟|نعم.",
]


@pytest.mark.parametrize("case", CASES)
def test_hard_case(case):
    sentences = case.split("|")
    between = "" if "。" in case else " "
    assert split_sentences(between.join(sentences)) == sentences


def test_there_are_at_least_sixty_hard_cases():
    assert len(set(CASES)) >= 60


def test_no_text_is_lost_and_white_space_is_single_spaces():
    text = "One  two.\tThree\u2028four. Five.\r\nSix\x0cseven"
    assert split_sentences(text) == ["One two.", "Three four.", "Five.", "Six seven"]


def test_only_a_line_feed_is_a_line_break():
    assert split_sentences("a\u2028b\x85c\x1cd\ve") == ["a b c d e"]


@pytest.mark.parametrize(
    ("line_breaks", "text", "expected"),
    [
        ("paragraphs", "A heading\nSome text. More", ["A heading", "Some text.", "More"]),
        ("wrapped", "It was a long\nday. It was\nnot over", ["It was a long day.", "It was not over"]),
        ("wrapped", "First\n\nSecond", ["First", "Second"]),
        ("wrapped", "Buy:\n- milk\n- eggs and\n  butter\n1. Done", ["Buy:", "- milk", "- eggs and butter", "1. Done"]),
        ("auto", "A wrapped\nline here.", ["A wrapped line here."]),
        ("auto", "Heading\n" + "word " * 40 + "end.", ["Heading", "word " * 40 + "end."]),
    ],
)
def test_line_breaks(line_breaks, text, expected):
    assert split_sentences(text, line_breaks) == expected


def test_invalid_line_breaks():
    with pytest.raises(ValueError, match="line_breaks"):
        split_sentences("a", "lines")


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\u2028"])
def test_no_text(text):
    assert split_sentences(text) == []


def test_lowercased_text_is_split_too():
    text = "it rained all day. " * 20
    assert len(split_sentences(text)) == 20


def test_long_text_without_punctuation_is_split_at_spaces():
    sentences = split_sentences("word " * 10_000)
    assert max(map(len, sentences)) <= MAX_SENTENCE_CHARACTERS
    assert " ".join(sentences).split() == ["word"] * 10_000
    assert sum(map(len, split_sentences("x" * 25_000))) == 25_000


def test_time_is_linear():
    def seconds(text):
        begin = time.process_time()
        split_sentences(text)
        return time.process_time() - begin

    # Inputs that make careless patterns take quadratic time.
    for unit in ("a. b ", '." ', ". . ", "“( ", "...", "J. R. ", "x"):
        assert seconds(unit * (400_000 // len(unit))) < 5


def test_the_size_of_pieces_does_not_matter(monkeypatch):
    """Long texts are read in pieces to save memory."""
    draw = random.Random(0)
    texts = ["".join(draw.choice("aB.  \n\n\t\u3000\x1c") for _ in range(draw.randrange(200))) for _ in range(300)]
    ways = ("paragraphs", "wrapped", "auto")
    at_once = [split_sentences(text, way) for text in texts for way in ways]
    for piece in (1, 2, 7, 50):
        monkeypatch.setattr("bertjax.text.sentences._PIECE", piece)
        assert [split_sentences(text, way) for text in texts for way in ways] == at_once
