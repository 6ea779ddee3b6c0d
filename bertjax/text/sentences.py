"""Splits text into sentences, by rule.

A regular expression finds every place that may end a sentence (a full stop, question mark or the like, closing quotes
or brackets, white space), and the words on both sides decide. The rules are written for English and work for other
languages that end sentences with ``. ! ?`` and begin them with a capital letter. In scripts without case every such
mark ends a sentence, and in CJK text ``。！？`` do so without white space after them.

Only "\\n" is a line break (``str.splitlines`` also splits at U+2028, form feeds and others). The caller says what it
means:

- ``paragraphs``: every line is a paragraph, so a line break always ends a sentence;
- ``wrapped``: text is hard-wrapped, so a line break is a space; a paragraph ends at a blank line, and before a line
  that begins with a list mark ("- ", "* ", "1. ", ...);
- ``auto``: ``paragraphs`` if more than one line in twenty is longer than 120 characters, else ``wrapped``.
"""

import re
from collections.abc import Iterator

# A longer sentence (text without punctuation) is split at a space, to bound memory and lengths.
MAX_SENTENCE_CHARACTERS = 10_000

_PIECE = 1 << 20  # characters split into words at a time
_WRAP_WIDTH = 120
_LONG_LINE = re.compile(rf"[^\n]{{{_WRAP_WIDTH + 1}}}[^\n]*+")
_LINE = re.compile("^.*$", re.MULTILINE)
_SPACE = re.compile(r"\s")
_CLOSERS = "\"'”’»›)\\]}"
_MARKS = ".!?…‽؟۔।॥։።"
_CJK_MARKS = "。！？｡"
_CJK_CLOSERS = "」』”’）】》〉"
# Possessive, and only from the first mark of a run, so that every input takes linear time.
_CANDIDATE = re.compile(
    rf"(?<![{_MARKS}])([{_MARKS}]++)([{_CLOSERS}]*+) "
    rf"|(?<![{_CJK_MARKS}])([{_CJK_MARKS}]++[{_CJK_CLOSERS}]*+) ?+(?=.)"
)
_NEXT_WORD = re.compile(r"[\s\"'“‘„«‹(\[{¿¡—–\-*_]*(\w[\w'’]*\.?|\W)")
_LIST_MARK = re.compile(r"\s*(?:[-*+•‣·–—]|\(?(?:\d{1,3}|[A-Za-z])[.)])\s+\S")
_ENUMERATOR = re.compile(r"\(?(?:\d{1,3}|[A-Za-z]|[IVXLC]{1,5}|[ivxlc]{1,5}|\d+(?:\.\d+)+)$")
_OPENERS = "\"'“‘„«‹([{¿¡—–-*_"
_INNER_DOTS = re.compile(r"[^\W\d_]{1,3}(?:\.[^\W\d_]{1,3})+$")


def split_sentences(text: str, line_breaks: str = "paragraphs") -> list[str]:
    """The sentences of ``text`` in order, with single spaces for white space; none is empty. ``line_breaks`` is
    ``paragraphs``, ``wrapped`` or ``auto`` (see the module's docstring)."""
    sentences: list[str] = []
    for paragraph in filter(None, map(_squeezed, _paragraphs(text, line_breaks))):
        _split_paragraph(paragraph, sentences)
    return sentences


def _paragraphs(text: str, line_breaks: str) -> Iterator[str]:
    if line_breaks == "auto":
        long = sum(1 for _ in _LONG_LINE.finditer(text))
        line_breaks = "paragraphs" if 20 * long > text.count("\n") + 1 else "wrapped"
    if line_breaks == "paragraphs":
        yield from _lines(text)
        return
    if line_breaks != "wrapped":
        raise ValueError(f"line_breaks must be 'paragraphs', 'wrapped' or 'auto', not {line_breaks!r}")
    current: list[str] = []
    for line in _lines(text):
        blank = not line or line.isspace()
        if current and (blank or _LIST_MARK.match(line)):
            yield " ".join(current)
            current = []
        if not blank:
            current.append(line)
    if current:
        yield " ".join(current)


def _lines(text: str) -> Iterator[str]:
    """``text.split("\\n")`` one by one: the list for a text of line breaks alone takes eight times its size."""
    return (match[0] for match in _LINE.finditer(text))


def _squeezed(text: str) -> str:
    """``" ".join(text.split())``, piece by piece for the same reason."""
    parts, start = [], 0
    while start < len(text):
        space = _SPACE.search(text, start + _PIECE)
        end = len(text) if space is None else space.start()
        parts.append(" ".join(text[start:end].split()))
        start = end
    return " ".join(filter(None, parts))


def _split_paragraph(text: str, sentences: list[str]) -> None:
    """Appends the sentences of one paragraph, in which all white space is single spaces."""
    # In text without capital letters (a lowercased corpus) sentences begin with small ones.
    small_starts = len(text) > 200 and text.islower()
    start = 0
    for match in _CANDIDATE.finditer(text):
        if match[3] is not None or _ends_sentence(text, start, match, small_starts):
            _append(text[start : match.end()].rstrip(), sentences)
            start = match.end()
    _append(text[start:], sentences)


def _append(sentence: str, sentences: list[str]) -> None:
    start = 0
    while len(sentence) - start > MAX_SENTENCE_CHARACTERS:
        cut = sentence.rfind(" ", start + 1, start + MAX_SENTENCE_CHARACTERS)
        cut = cut if cut > 0 else start + MAX_SENTENCE_CHARACTERS
        sentences.append(sentence[start:cut])
        start = cut + 1 if sentence[cut] == " " else cut
    if start < len(sentence):
        sentences.append(sentence[start:])


def _ends_sentence(text: str, start: int, match: re.Match[str], small_starts: bool) -> bool:
    following = _NEXT_WORD.match(text, match.end())
    if following is None:
        return True
    next_word, first = following[1], following[1][0]
    if first.islower() and not small_starts:
        return False
    if first in ".,;:!?…)]}%&=<>|/":  # a spaced ellipsis, or punctuation within the sentence
        return False
    if match[1] != ".":
        return True
    word_at = max(text.rfind(" ", start, match.start()) + 1, start)
    word = text[word_at : match.start()].lstrip(_OPENERS)
    if not word:
        return True
    begins = next_word.rstrip(".") in _SENTENCE_STARTERS or small_starts
    lower = word.lower()
    at_start = word_at - start < 8 and not text[start:word_at].strip(_OPENERS + " ")
    if at_start and _ENUMERATOR.match(word) and len(next_word) > 1 and not small_starts:
        return False  # "1. Introduction", "IV. The return", and initials at the start: "J. Smith came."
    if len(word) == 1 and word.isalpha() and word.isupper():
        # An initial ("Harry S. Truman") or a letter that ends a sentence ("plan B. The others").
        end = max(word_at - 1, start)
        before = text[max(text.rfind(" ", start, end) + 1, start) : end].lstrip(_OPENERS)
        return begins and not (before[:1].isupper() or before.endswith("."))
    if lower in _ALWAYS_GOES_ON:
        return False
    if lower in _BEFORE_NUMBER:
        return not first.isdigit() and (lower in ("no", "art", "fig", "in") or begins)
    # "in the U.S. The court" against "the U.S. Supreme Court"
    if _INNER_DOTS.match(word) or lower in _MAY_END_SENTENCE:
        return begins
    # "St.-Denis", "vol.-no." and hyphenated names: the last part decides.
    return not ("-" in lower and lower.rsplit("-", 1)[-1] in _ALWAYS_GOES_ON)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Lowercase, without the full stop. They never end a sentence: titles before names, and words that introduce.
_ALWAYS_GOES_ON = _words(
    """
    mr mrs ms mx messrs mlle mme mm dr drs prof profs rev revd fr hon pres gov sen rep reps sens amb atty supt det insp
    gen lieut lt col maj capt cpt cmdr cdr adm brig sgt cpl pvt pfc ens st ste sts mt mts ft msgr bp abp
    e.g eg i.e ie cf viz vs v approx ca resp esp incl excl aka a.k.a betw nr b d fl r né née
    ser ed eds trans rev'd transl orig illus intro repr comp dist div vgl z.b bzw
    """
)

# They do not end a sentence if a number follows.
_BEFORE_NUMBER = _words(
    """
    no nos nr num fig figs figure p pp pg pgs par para vol vols ch chap chaps sec sect secs art arts eq eqs eqn eqns ex
    exs app tab tbl ref refs col cols ll lib bk bks pt pts op opp nov. ver item ann cl
    jan feb mar apr jun jul aug sep sept oct nov dec n° in
    """
)

# They end a sentence only if the next word is one that begins sentences.
_MAY_END_SENTENCE = _words(
    """
    etc al inc ltd co corp cos bros plc llc lp pty gmbh jr sr esq ave blvd rd hwy sq dept univ assn assoc intl natl
    mfg mgr est dist ph.d phd m.d md b.a ba m.a ma b.sc bsc m.sc msc d.c u.s u.k u.n e.u a.m p.m
    mon tue tues wed thu thurs fri avg misc temp lat alt elev sp spp var subsp
    oz lb lbs ft mi km cm mm kg hr hrs mins secs yr yrs mo mos wk wks c
    ala ariz ark calif colo conn fla ga ind kan ky md mich minn mont neb nev
    okla ore penn pa tenn tex va vt wis wyo ont que alta cal
    ibid op.cit loc.cit seq ff
    """
)

# As written at the beginning of a sentence, without names.
_SENTENCE_STARTERS = _words(
    """
    A About Above According After Afterwards Again All Along Already Also Although Always Among An And Another Any
    Anyone Are As At Because Before Behind Being Below Beside Besides Between Both But By Can Certainly Could Did Do
    Does Down During Each Either Even Eventually Every Everyone Everything Except Few Finally First For Four From
    Further Furthermore Had Has Have Having He Hence Her Here Hers His How However I If I'd I'll I'm I've In Indeed
    Instead Into Is It Its It's It’s I’m I’ve I’ll I’d He's She's He’s She’s They're They’re Just Last Later Less Let
    Like Many May Meanwhile Might Moreover More Most Much Must My Nearly Neither Never Nevertheless Next No Nobody None
    Nonetheless Nor Not Note Nothing Now Of Often On Once One Only Or Other Others Otherwise Our Out Over Perhaps
    Please Put Rather Returns Said See Several Shall She Should Similarly Since So Some Someone Something Sometimes Soon
    Still Such Suddenly Than That The Their Them Then There Thereafter Therefore These They This Those Though Three
    Through Throughout Thus To Today Together Too Two Under Unless Unlike Until Up Upon Use Usually Was We Well Were
    What Whatever When Whenever Where Whereas Whether Which While Who Whoever Whose Why Will With Within Without Would
    Yes Yesterday Yet You Your
    """
)
