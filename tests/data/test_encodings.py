"""Text that is not UTF-8 is told from UTF-8, and what the line says to do about it works when it is done."""

from __future__ import annotations

import gzip
import json
import lzma
import shutil
import subprocess

import pytest
import zstandard

from bertjax.data.corpus import manifest as manifests
from bertjax.data.corpus.encodings import guessed_encoding
from bertjax.data.corpus.files import Report
from bertjax.data.corpus.prepared import open_prepared, prepare
from bertjax.data.corpus.sources import TextList, open_sources, read_documents
from bertjax.data.corpus.text_warnings import text_warnings
from bertjax.errors import DataError
from bertjax.tasks.records import numbered_lines
from bertjax.tasks.tables import Columns, read_texts

# Made up, of the letters that a language writes.
LANGUAGES = {
    "German": "Müßige Füße gehen täglich über schöne Brücken. Größere Bäume blühen früh.\n\nDas Öl hält zwölf Jahre.\n",
    "French": "L'été, la forêt était déjà très sèche. Où êtes-vous allés ? Ça brûle.\n\nIl a mangé à côté.\n",
    "Polish": "Wczoraj łódź płynęła ciężko pod prąd. Żółte liście spadły.\n\nKoń śpi, gdy źródło milczy.\n",
    "Turkish": "Bugün şehirde güneş doğdu. Ağaçlar yeşil, çocuklar ışıkta.\n\nİğne ılık suya düştü, şaşırdık.\n",
    "Russian": "Вчера мы ходили к реке и пили горячий чай. Вода была холодной.\n\nДома стоят у самой дороги.\n",
    "Greek": "Χθες πήγαμε στο ποτάμι και ήπιαμε ζεστό τσάι. Το νερό ήταν κρύο.\n\nΤα σπίτια είναι κοντά.\n",
    "Arabic": "ذهبنا أمس إلى النهر وشربنا الشاي الساخن. كان الماء باردا جدا.\n\nالبيوت قريبة من الطريق.\n",
    "Thai": "เมื่อวานนี้เราไปที่แม่น้ำและดื่มชาร้อน น้ำเย็นมาก\n\nบ้านอยู่ใกล้ถนน\n",
    "Chinese": "昨天我们去了河边，喝了热茶。水是很冷的，我们没有在那里游泳。\n\n房子在大路的旁边。\n",
    "Traditional": "昨天我們去了河邊，喝了熱茶。水是很冷的，我們沒有在那裡游泳。\n\n房子在大路的旁邊。\n",
    "Japanese": "昨日、私たちは川のそばでお茶を飲みました。水はとても冷たかったです。\n\n家は道の近くにあります。\n",
    "Korean": "어제 우리는 강가에 가서 뜨거운 차를 마셨다. 물은 아주 차가웠다.\n\n집은 길 옆에 있다.\n",
}
LEGACY = [
    ("German", "cp1252"),
    ("French", "cp1252"),
    ("Polish", "cp1250"),
    ("Turkish", "cp1254"),
    ("Russian", "cp1251"),
    ("Russian", "koi8-r"),
    ("Greek", "cp1253"),
    ("Arabic", "cp1256"),
    ("Thai", "cp874"),
    ("Chinese", "gb18030"),
    ("Traditional", "big5"),
    ("Japanese", "cp932"),
    ("Japanese", "euc-jp"),
    ("Korean", "cp949"),
]
WIDE = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))


def documents(source, report=None):
    return [d.text for d in read_documents(open_sources([source]), report or Report())]


def followed(error, folder):
    """Runs the command of a message, and returns the file that it makes."""
    command = str(error.value).split("`")[1]
    if any(shutil.which(program) is None for program in ("iconv", "sh")):
        pytest.skip("no iconv here")
    subprocess.run(["sh", "-c", command], check="-c" not in command.split())
    (made,) = folder.glob("*.utf8*")
    return made


def as_json_lines(text):
    return "".join(json.dumps({"text": part}, ensure_ascii=False) + "\n" for part in text.split("\n\n"))


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("language", ["German", "Russian", "Chinese", "Korean", "Thai"])
def test_wide_text_is_refused_by_name(language, encoding, tmp_path):
    """Its zero bytes, and the halves of its letters, are valid UTF-8 all too often."""
    text = LANGUAGES[language]
    (tmp_path / "a b.txt").write_bytes(text.encode(encoding))
    kind = encoding[:6].upper()
    with pytest.raises(DataError, match=f"a b.txt:1: the file is {kind}; save it as UTF-8") as error:
        documents(tmp_path / "a b.txt")
    assert "\n" not in str(error.value)
    assert documents(followed(error, tmp_path)) == text.strip().split("\n\n")


@pytest.mark.parametrize("ending", PACK)
def test_wide_text_in_compressed_and_labelled_files(ending, tmp_path):
    for name, text in (("a.jsonl", as_json_lines(LANGUAGES["Russian"])), ("a.tsv", "label\ttext\n1\tНет\n0\tДа\n")):
        path = tmp_path / f"{name}{ending}"
        path.write_bytes(PACK[ending](text.encode("utf-16")))
        readers = [numbered_lines] if name == "a.tsv" else [documents, numbered_lines]
        for reader in readers:
            with pytest.raises(DataError, match=r":1: the file is UTF-16; save it as UTF-8: `") as error:
                list(reader(path))
        if ending != ".zst" or shutil.which("zstd"):
            assert followed(error, tmp_path).read_text(encoding="utf-8") == text
            followed(error, tmp_path).unlink()


@pytest.mark.parametrize(("language", "encoding"), LEGACY)
def test_another_encoding_is_refused_with_what_it_perhaps_is(language, encoding, tmp_path):
    text = LANGUAGES[language]
    for name, content in (("a.txt", text), ("b.jsonl", as_json_lines(text))):
        path = tmp_path / name
        path.write_bytes(content.encode(encoding))
        with pytest.raises(DataError, match=r"% of its bytes are not UTF-8 text; perhaps it is [A-Z0-9-]+: `") as error:
            documents(path)
        made = followed(error, tmp_path)
        assert made.read_text(encoding="utf-8") == content
        assert documents(made) == text.strip().split("\n\n") if name == "a.txt" else documents(made)
        made.unlink()


def test_nothing_is_guessed_where_nothing_fits():
    noise = bytes((i * i * 31 + i // 7) % 256 for i in range(5000))
    assert guessed_encoding(noise) is None
    assert guessed_encoding(b"plain") is None


def test_a_large_sample_may_end_within_a_character():
    text = LANGUAGES["Chinese"] * 3000
    for odd in (b"", b"x"):
        assert guessed_encoding((odd + text.encode("gb18030"))[: 1 << 16]) == "GB18030"


def english(lines, bad, every):
    """So many lines of ASCII, and ``bad`` in one of ``every``."""
    return b"\n\n".join(
        b"The river is %d miles long, and so it goes on. %s" % (n, bad if n % every == 0 else b"") for n in range(lines)
    )


def test_some_bytes_are_a_warning_that_is_kept(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(english(200, "Café".encode("cp1252"), 5))
    corpus = prepare([path], vocab_size=300)
    (line,) = [line for line in text_warnings(corpus) if "UTF-8" in line]
    assert "perhaps it is CP1252: `iconv -f CP1252 -t UTF-8" in line and "were replaced" in line
    # Whoever opens the prepared corpus, or finds it in the cache, is told, too.
    assert line in text_warnings(open_prepared(corpus.path))
    assert line in text_warnings(prepare([path], vocab_size=300))


def test_a_few_bytes_are_only_counted(tmp_path):
    (tmp_path / "a.txt").write_bytes(english(200, b"\xff", 40))
    corpus = prepare([tmp_path / "a.txt"], vocab_size=300)
    assert corpus.manifest["counts"]["replaced_bytes"] == 5
    assert not [line for line in text_warnings(corpus) if "UTF-8" in line]


def test_the_file_is_judged_and_not_the_corpus(tmp_path):
    """One file of another encoding among many good ones is all lost, whatever its share."""
    (tmp_path / "a.txt").write_bytes(english(3000, b"", 1))
    (tmp_path / "b.txt").write_bytes(LANGUAGES["Russian"].encode("cp1251"))
    with pytest.raises(DataError, match=r"b\.txt: .* perhaps it is CP1251"):
        prepare([tmp_path / "*.txt"], vocab_size=300)


def test_damaged_utf8_is_not_taken_for_another_encoding(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes((LANGUAGES["Russian"].encode() + b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe\n\n") * 20)
    with pytest.raises(DataError, match="though most of what is beyond ASCII is; to drop them: `iconv -c") as error:
        documents(path)
    assert documents(followed(error, tmp_path))[0] == LANGUAGES["Russian"].split("\n\n")[0]


def test_nuls_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"abc\0\0def ghi\n" * 100)
    with pytest.raises(DataError, match="but NUL characters, which do not belong"):
        documents(tmp_path / "a.txt")


def test_parquet_and_texts_too(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = [LANGUAGES["Russian"].encode("cp1251")] * 3
    pq.write_table(pa.table({"text": pa.array(values, pa.binary())}), tmp_path / "a.parquet")
    with pytest.raises(
        DataError, match=r"perhaps it is CP1251: make text of the bytes with `value.decode\('cp1251'\)`"
    ):
        documents(tmp_path / "a.parquet")
    texts = [value.decode("utf-8", "surrogateescape") for value in values]
    with pytest.raises(DataError, match=r"texts: .*perhaps it is CP1251: .*`value.decode\('cp1251'\)`"):
        documents(TextList(texts))
    assert documents(TextList([value.decode("cp1251") for value in values])) == [LANGUAGES["Russian"]] * 3


def test_labelled_files_name_the_encoding(tmp_path):
    path = tmp_path / "a.tsv"
    text = "label\ttext\n" + "".join(f"{n % 2}\t{LANGUAGES['Russian'].splitlines()[0]}\n" for n in range(9))
    path.write_bytes(text.encode("cp1251"))
    with pytest.raises(
        DataError, match=r"a\.tsv:2: byte 2 of the line, 0xc2, is not valid UTF-8; .* perhaps it is CP1251"
    ) as e:
        read_texts(path, Columns(), "classification")
    assert len(read_texts(followed(e, tmp_path), Columns(), "classification")) == 9
    path.write_bytes(text.encode() + "1\tcafé\n".encode("cp1252"))  # one bad line among good ones
    with pytest.raises(DataError, match=r"a\.tsv:11: byte 5"):
        read_texts(path, Columns(), "classification")


BLANKS = ["", " ", "\t", "\xa0", "\u3000", "\u3000\u3000 ", "\u2003", "\x0c", "\u202f", "\ufeff"]


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
def test_a_line_of_any_white_space_is_blank(blank, tmp_path):
    (tmp_path / "a.txt").write_text(f"One.\nOne.\n{blank}\nTwo.\n{blank}\n{blank}\nThree.", encoding="utf-8")
    assert documents(tmp_path / "a.txt") == ["One.\nOne.", "Two.", "Three."]
    lines = [json.dumps({"text": text}) for text in ("One.", "Two.")]
    (tmp_path / "a.jsonl").write_text(f"\n{blank}\n".join(lines), encoding="utf-8")
    report = Report()
    assert documents(tmp_path / "a.jsonl", report) == ["One.", "Two."] and report.skipped_lines == 0
    rows = [json.dumps({"text": text, "label": text}) for text in ("One.", "Two.")]
    (tmp_path / "b.jsonl").write_text(f"\n{blank}\n".join(rows), encoding="utf-8")
    assert len(read_texts(tmp_path / "b.jsonl", Columns(), "classification")) == 2


@pytest.mark.parametrize("ending", PACK)
def test_byte_order_marks_of_joined_files(ending, tmp_path):
    def written(name, text):
        (tmp_path / f"{name}{ending}").write_bytes(PACK[ending](text.encode()))
        return tmp_path / f"{name}{ending}"

    assert documents(written("a.txt", "\ufeffOne.\n\n\ufeff\ufeffTwo.\n\ufeff\nThree.\ufeff Four.")) == [
        "One.",
        "Two.",
        "Three. Four.",
    ]
    assert documents(written("a.jsonl", '\ufeff{"text": "\ufeffOne."}\n\ufeff{"text": "Two."}\n')) == ["One.", "Two."]
    lines = dict(numbered_lines(written("a.tsv", "\ufefflabel\ttext\n\ufeff1\ta\n\ufeff\ta\n")))
    # A cell that is a mark and nothing else is the user's.
    assert lines == {1: "label\ttext", 2: "1\ta", 3: "\ufeff\ta"}


@pytest.mark.parametrize("ending", PACK)
def test_files_with_carriage_returns_only(ending, tmp_path):
    def written(name, text):
        (tmp_path / f"{name}{ending}").write_bytes(PACK[ending](text.encode()))
        return tmp_path / f"{name}{ending}"

    assert documents(written("a.txt", "One.\rone.\r\rTwo.\r")) == ["One.\none.", "Two."]
    assert documents(written("a.jsonl", '{"text": "One."}\r{"text": "Two."}\r')) == ["One.", "Two."]
    for name, divider in (("a.tsv", "\t"), ("a.csv", ",")):
        text = f"label{divider}text\rx{divider}one\ry{divider}two\r"
        examples = read_texts(written(name, text), Columns(), "classification")
        assert [(example.label, example.text) for example in examples] == [("x", "one"), ("y", "two")]
        assert examples[1].where.endswith(":3")
    # In a file with line feeds a carriage return is white space, or part of a cell, and ends nothing.
    assert documents(written("b.txt", "One.\r\none.\rmore.\r\n\r\nTwo.\r\r\n")) == ["One.\none.\rmore.", "Two."]
    assert dict(numbered_lines(written("b.tsv", "label\ttext\nx\ta\rb\n"))) == {1: "label\ttext", 2: "x\ta\rb"}


def test_carriage_returns_in_a_file_larger_than_what_is_read_at_once(tmp_path):
    lines = [f"Line {n} of the file is here.\r\r" for n in range(100_000)]
    (tmp_path / "a.txt").write_text("".join(lines), newline="")
    assert len(documents(tmp_path / "a.txt")) == len(lines)


def test_a_corpus_read_by_other_rules_is_made_again(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_bytes(english(50, b"", 1))
    monkeypatch.setattr(manifests, "READING_RULES", 1)
    before = prepare([path], vocab_size=300)
    assert prepare([path], vocab_size=300).path == before.path
    monkeypatch.undo()
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))
    assert prepare([path], vocab_size=300).path != before.path
    open_prepared(before.path)  # and is as good as it was for whoever has it
