"""Marks on letters: whether they are kept, by text, language and script; the Turkish i and ı."""

from __future__ import annotations

import json
import unicodedata

import pytest

from bertjax.errors import ConfigError
from bertjax.text.accents import caseless_warning, decide
from bertjax.text.languages import MARKS_ARE_ACCENTS, primary
from bertjax.text.tokenizer import load_tokenizer
from bertjax.text.vocabulary import train_tokenizer

# Text, and whether its marks are accents.
SCRIPTS = {
    "Hindi": ("कुत्ता घर में सो रहा है। बिल्ली दूध पी रही है।", False),
    "Bengali": ("কুকুর বাড়িতে ঘুমাচ্ছে।", False),
    "Tamil": ("நாய் வீட்டில் தூங்குகிறது.", False),
    "Thai": ("ที่นี่ไม่มีใครอยู่บ้าน", False),
    "Japanese": ("ガラスのびんがテーブルにあります。", False),
    "Korean": ("개가 집에서 자고 있다.", False),
    "Russian": ("Ёжик живёт в лесу, а мой край далёк.", False),
    "Ukrainian": ("Їжак їсть яблуко, її край далекий.", False),
    "Arabic": ("مَرْحَبًا بِكُمْ فِي البَيْتِ", False),
    "Hebrew": ("שָׁלוֹם לְכֻלָּם", False),
    "Turkish": ("Şişman kış çığı ağır ağır indi. Istırap ve İzmir.", False),
    "Vietnamese": ("Người ta thường nói như vậy với những người mới.", False),
    "French": ("L'élève a été à la forêt, où le maïs naît.", True),
    "German": ("Die schöne Straße führt über den Fluß.", True),
    "Greek": ("Ο σκύλος κοιμάται στο σπίτι, ὦ ἄνδρες.", True),
    "English": ("The dog sleeps at home.", True),
}
KINDS = ("wordpiece", "sentencepiece")


def learned(text: str, kind: str, **options):
    return train_tokenizer(kind, [text] * 20, 420, options.pop("lowercase", True), **options)


def read_back(tokenizer, text: str) -> str:
    """What the vocabulary sees of a text, without white space."""
    assert tokenizer.unk_id not in tokenizer.encode(text)
    return "".join(tokenizer.decode(tokenizer.encode(text)).split())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_learned_vocabulary_keeps_marks_that_are_letters(name, kind):
    text, strips = SCRIPTS[name]
    tokenizer = learned(text, kind)
    assert tokenizer.strip_accents is strips
    kept = unicodedata.normalize("NFKC" if kind == "sentencepiece" else "NFC", text).lower()
    if strips:
        kept = "".join(c for c in unicodedata.normalize("NFD", kept) if unicodedata.category(c) != "Mn")
    assert read_back(tokenizer, text) == "".join(kept.split())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strip_accents", [True, False])
def test_the_decision_is_stored(kind, strip_accents, tmp_path):
    tokenizer = learned("élève ガ", kind, strip_accents=strip_accents)
    tokenizer.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_bytes())
    told = not config["keep_accents"] if kind == "sentencepiece" else config["strip_accents"]
    assert told is strip_accents
    again = load_tokenizer(tmp_path, strip_accents=not strip_accents)
    assert again.strip_accents is strip_accents and again.fingerprint == tokenizer.fingerprint
    assert (read_back(again, "élève ガ") == "eleveカ") is strip_accents


def test_null_in_a_given_tokenizer_means_as_lowercasing(tmp_path):
    """As in Hugging Face; the export has null too."""
    learned("élève ガ", "wordpiece", strip_accents=True).save(tmp_path)
    for name in ("tokenizer_config.json", "tokenizer.json"):
        value = json.loads((tmp_path / name).read_bytes())
        value.get("normalizer", value)["strip_accents"] = None
        (tmp_path / name).write_text(json.dumps(value))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.strip_accents is True and tokenizer.encode("élève") == tokenizer.encode("eleve")
    tokenizer.save(tmp_path / "again")
    assert json.loads((tmp_path / "again/tokenizer_config.json").read_bytes())["strip_accents"] is None
    explicit = learned("élève ガ", "wordpiece", strip_accents=True)
    assert tokenizer.fingerprint == explicit.fingerprint  # has the same effect


def decided(text: str, lowercase: bool = True, strip_accents: bool | None = None, language: str | None = None):
    return decide([text], lowercase, strip_accents, language)


def test_the_main_script_decides_if_the_others_lose_nothing():
    french, hindi, chinese = "élève à la forêt " * 10, "कुत्ता घर में ", "汉字没有附加符号"
    assert decided(french + chinese * 3).strip  # Chinese has no marks to lose
    assert not decided(french + hindi * 3).strip
    assert (
        "Devanagari" not in decided(french).said and "would lose what is not an accent" in decided(french + hindi).said
    )
    assert not decided(french + chinese * 30).strip
    assert decided(french * 200 + hindi).strip  # one word in a book
    assert not decided("plain text without marks ガラスのびん" * 5).strip
    assert decided("").strip and decided("12 - 34").strip
    # Half and full width, and marks that stand by themselves.
    assert decided("ｆｕｌｌ ｗｉｄｔｈ e\u0301le\u0300ve").strip and not decided("ｶﾞﾗｽ か\u3099き\u3099").strip


def test_languages_with_marked_letters_in_their_alphabet():
    for code in ("tr", "az", "sv", "vi", "es", "de", "cs", "tur", "sv-SE", "de_AT", "DE"):
        assert not decided("plain text, é", language=primary(code)).strip
    for code in ("fr", "en", "el", "it", "pt-BR", "fra", "grc"):
        assert decided("plain text, é", language=primary(code)).strip
    assert not decided("कुत्ता घर", language="fr").strip  # the text counts too
    assert "'sv'" in decided("å", language="sv").said and "ru" not in MARKS_ARE_ACCENTS


@pytest.mark.parametrize("code", ["turkish", "jp", "gr", "", "t", "12", "tr!", "xx"])
def test_invalid_language_codes(code):
    with pytest.raises(ConfigError, match=r"data\.language = .* is not a language code.*such as tr"):
        primary(code)


def test_explanations_and_warnings():
    assert decided("plain").said == "no letter has an accent; one that comes later loses it (strip_accents = True)"
    assert "é ... lose theirs, 20.0% of the letters" in decided("école").said
    assert "Devanagari); 100% have no case" in decided("कुत्ता घर").said
    assert decided("कुत्ता", lowercase=False).said.endswith("text is not lowercased")
    asked = decided("कुत्ता घर में", strip_accents=True)
    assert asked.strip and "data.strip_accents=False" in asked.warnings[0] and "\u25cc" in asked.warnings[0]
    assert not decided("école", strip_accents=True).warnings and not decided("कुत्ता", strip_accents=False).warnings
    assert caseless_warning(decided("कुत्ता").caseless) and not caseless_warning(decided("école कु").caseless)
    turkish = SCRIPTS["Turkish"][0]
    assert "data.language=tr" in decided(turkish).warnings[0]
    assert not decided(turkish, language="tr").warnings and not decided(turkish, lowercase=False).warnings


@pytest.mark.parametrize("kind", KINDS)
def test_turkish_i(kind, tmp_path):
    text = "ISPARTA'DAN İZMİR'E ılık ilk Işık I\u0307ğne i\u0307p"
    wanted = "ısparta'danizmir'eılıkilkışıkiğneip"
    tokenizer = learned(text, kind, language="tr")
    assert read_back(tokenizer, text) == wanted
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.dotless_i and again.fingerprint == tokenizer.fingerprint
    assert again.encode(text) == tokenizer.encode(text)
    located = again.encode_with_offsets([text])[0]
    assert located.ids == tokenizer.encode(text)
    covered = {position for begin, end in located.offsets for position in range(begin, end)}
    assert covered == {position for position, character in enumerate(text) if character != " "}
    for others in ({"language": "de"}, {"language": None}, {"language": "tr", "lowercase": False}):
        other = learned(text, kind, **others)
        assert not other.dotless_i and other.fingerprint != tokenizer.fingerprint
    stripped = learned("Işık İZMİR şiş", kind, language="tr", strip_accents=True)
    assert read_back(stripped, "Işık İZMİR şiş") == "ısıkizmirsis"


@pytest.mark.parametrize("kind", KINDS)
def test_files_without_tokenizer_config(kind, tmp_path):
    tokenizer = learned("ISPARTA İZMİR ılık şiş", kind, language="az")
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    assert load_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint  # as tokenizer.json has it
    (tmp_path / "tokenizer.json").unlink()
    assert load_tokenizer(tmp_path, strip_accents=False, language="az").fingerprint == tokenizer.fingerprint
    assert load_tokenizer(tmp_path).strip_accents and not load_tokenizer(tmp_path).dotless_i
