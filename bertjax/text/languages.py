"""Languages: their codes, letters with marks and the dotless i; and the ranges of Chinese characters."""

from typing import Any

from bertjax.errors import ConfigError

# ISO 639-1, so without country codes that people mistake for languages (jp, cn, gr, cz, dk, ua, vn).
_CODES = """
    aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo
    es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka
    kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng
    nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st
    su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
# Three-letter codes of languages that the tables below list by two letters.
_LONG = {
    "afr": "af", "aze": "az", "azj": "az", "cat": "ca", "ell": "el", "eng": "en", "fra": "fr", "fre": "fr", "gre": "el",
    "ita": "it", "lat": "la", "dut": "nl", "nld": "nl", "oci": "oc", "por": "pt", "tur": "tr",
}  # fmt: skip
# In these languages a mark says how to read a letter (é, ô, ï), and no letter of the alphabet has one. All others keep
# their marks if data.language names them: the Turkish ş, Spanish ñ, Swedish å, Czech ř and Polish ł are letters of the
# alphabet; German umlauts (schon, schön) and Vietnamese tones distinguish words. Stripping cannot be undone.
MARKS_ARE_ACCENTS = ("en", "fr", "it", "pt", "ca", "oc", "nl", "af", "la", "el", "grc")
# Here i and ı are two letters with a capital each, İ and I.
DOTLESS_I_LANGUAGES = ("tr", "az", "crh", "gag")
# Letters that identify a language (or several with the same rules) when nobody named it.
TELLTALE = {"\u0131": "tr", "\u01b0": "vi"}
# What lowercasing those languages needs first: regular expressions and replacements, in order. The last one is for text
# that other programs have lowercased. None replaces two letters by one, since offsets would cover only one of the two.
DOTLESS_I = (("\u0130", "i"), ("I(?=\u0307)", "i"), ("I", "\u0131"), ("(?<=i)\u0307", ""))

# Ranges of code points, first and last. Chinese characters to BERT, each a word: _is_chinese_char of tokenization.py.
BERT_CHINESE = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip
# The same with those that Unicode has added since.
CHINESE = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x323AF), (0xF900, 0xFAFF))


def primary(code: str) -> str:
    """The language of a code: "tr" for tr, tur, TR and tr-TR. Raises ConfigError if it is not a valid code."""
    first = code.strip().lower().replace("_", "-").partition("-")[0]
    first = _LONG.get(first, first)
    is_long = len(first) == 3 and first.isascii() and first.isalpha()
    if first not in _CODES.split() and not is_long:
        raise ConfigError(f"config.data.language = {code!r} is not a language code (ISO 639), such as tr, de or pt-BR")
    return first


def dotless_i_steps() -> list[Any]:
    from tokenizers import Regex, normalizers

    return [normalizers.Replace(Regex(pattern), content) for pattern, content in DOTLESS_I]
