"""Languages as ``data.language`` names them: which codes there are, and what their alphabets make of marks and of i."""

from __future__ import annotations

import re

from bertjax.config import ConfigError


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


# ISO 639-1. Country codes that are taken for languages (jp, cn, gr, cz, dk, ua, vn) are not among them.
_CODES = _codes(
    """
    aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo
    es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka
    kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng
    nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st
    su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
    """
)
# Three letters for what has two, where the tables below have it.
_LONG = {
    "afr": "af", "aze": "az", "azj": "az", "cat": "ca", "ell": "el", "eng": "en", "fra": "fr", "fre": "fr", "gre": "el",
    "ita": "it", "lat": "la", "dut": "nl", "nld": "nl", "oci": "oc", "por": "pt", "tur": "tr",
}  # fmt: skip
# Here a mark says how a letter is read (é, ô, ï), and no letter of the alphabet has one. Every other language keeps its
# marks where it is named: a Turkish ş, a Spanish ñ, a Swedish å, a Czech ř, a Polish ł stand in the alphabet by
# themselves; German umlauts (schon, schön) and the tones of Vietnamese tell words apart. To strip cannot be undone.
_MARKS_ARE_ACCENTS = _codes("en fr it pt ca oc nl af la el grc")
# Their i and ı are two letters, with a capital each: I is no capital of i.
_DOTLESS_I = _codes("tr az crh gag")
# A letter that no language of other alphabets has; it tells a text of a language that nobody named.
TELLING = {"\u0131": "tr", "\u01b0": "vi"}
# What lowercasing those languages takes beside lowercasing: regular expressions and what is put there, in order. The
# last is for text that other programs have lowercased. None puts one letter for two, of which the place of only one
# would be known.
DOTLESS_I = (("\u0130", "i"), ("I(?=\u0307)", "i"), ("I", "\u0131"), ("(?<=i)\u0307", ""))


def primary(code: str) -> str:
    """The language of a code in small letters: "tr" of tr, tur, TR and tr-TR. Raises ConfigError where it is none."""
    first = code.strip().lower().replace("_", "-").partition("-")[0]
    first = _LONG.get(first, first)
    is_long = len(first) == 3 and first.isascii() and first.isalpha()
    if first not in _CODES and not is_long:
        raise ConfigError(
            f"config.data.language = {code!r} is no code of a language (ISO 639), such as tr, de or pt-BR"
        )
    return first


def has_dotless_i(language: str | None) -> bool:
    """Whether I is the capital of ı, and İ that of i; ``language``: of ``primary``."""
    return language in _DOTLESS_I


def marks_are_letters(language: str) -> bool:
    """Whether letters with marks are letters of their own; ``language``: of ``primary``."""
    return language not in _MARKS_ARE_ACCENTS


def with_dotless_i(text: str) -> str:
    """``text`` with İ and i\u0307 as i and I as ı, which is what lowercasing does not do."""
    for pattern, content in DOTLESS_I:
        text = re.sub(pattern, content, text)
    return text
