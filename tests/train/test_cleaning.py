"""How the text of a corpus is cleaned: keys, what is stored and said, and runs and corpora from before it was a key."""

import json
import shutil

import pytest

from bertjax.cli.progress import Display
from bertjax.config import default_config, identity_fingerprint, identity_items, phase, resolve
from bertjax.data.corpus import manifest as manifests
from bertjax.data.corpus.prepared import prepare
from bertjax.data.corpus.sources import TextList
from bertjax.data.corpus.text_warnings import text_warnings
from bertjax.errors import ConfigError, DataError
from bertjax.prepare import main
from bertjax.text.tokenizer import load_tokenizer
from bertjax.train.open_corpus import BY_CONTENT, open_corpus, settled
from bertjax.workdir.config_json import check_same_run, config_record, with_recorded_identity

FRENCH = [f"L'élève numéro {i} a été à la forêt. Il dîne où il naît." for i in range(20)]
HINDI = [f"कुत्ता घर में सो रहा है। बिल्ली दूध पी रही है। {i}" for i in range(20)]
TURKISH = [f"ISPARTA'da ılık kış. İzmir'de şişman ağaç {i}." for i in range(20)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def prepared(texts, output=None, **options):
    return prepare([TextList(texts)], output, vocab_size=300, **options)


def config(corpus, **data):
    made = default_config()
    made.model.vocab_size = 300
    made.data.corpus = str(corpus)
    made.data.update(data)
    made.phases.phase1 = phase(sequence_length=32, batch_size=8, steps=2, learning_rate=1e-3, warmup_steps=1)
    return resolve(made)


def begun(run):
    """(corpus, config.json, lines) of a run that begins."""
    lines = []
    corpus = open_corpus(run, None, Display(lines.append))
    run = settled(run, None, corpus)
    place = {"fingerprint": corpus.fingerprint, "path": str(corpus.path)}
    record = config_record(run, place, {}, {"tokenizer": corpus.tokenizer.fingerprint})
    return corpus, json.loads(json.dumps(record)), lines


def gone_on(run, recorded, workdir):
    check_same_run(recorded, run, workdir, BY_CONTENT)
    corpus = open_corpus(run, recorded, Display(lambda line: None), workdir)
    assert identity_fingerprint(settled(run, recorded, corpus)) == recorded["identity_fingerprint"]
    return corpus


def of_before(folder):
    """Makes a lowercased corpus what was prepared before accents were a key: the tokenizer's files say null."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    for name in ("strip_accents", "language", "character_coverage"):
        del manifest["settings"][name]
    del manifest["tokenizer"]["strip_accents"]
    del manifest["cleaning"], manifest["tokenizer"]["dotless_i"]
    for name in ("tokenizer_config.json", "tokenizer.json"):
        file = folder / "tokenizer" / name
        value = json.loads(file.read_bytes())
        value.get("normalizer", value)["strip_accents"] = None
        file.write_text(json.dumps(value))
    files = manifests.describe_files(folder, (file for file in folder.rglob("*") if file != path and file.is_file()))
    manifest |= {"files": files, "key": manifests.key_of(manifest["sources"], manifest["settings"])}
    path.write_text(json.dumps(manifest))
    return manifest


@pytest.mark.parametrize(("texts", "strips"), [(FRENCH, True), (HINDI, False), (TURKISH, False)])
def test_what_is_decided_is_said_stored_and_part_of_the_run(texts, strips, tmp_path):
    source = tmp_path / "text.txt"
    source.write_text("\n\n".join(texts))
    run = config(source)
    corpus, recorded, lines = begun(run)
    assert corpus.manifest["tokenizer"]["strip_accents"] is strips
    assert load_tokenizer(corpus.path).strip_accents is strips
    (said,) = [line for line in lines if "accents are" in line]
    assert f"accents are {'stripped' if strips else 'kept'} (strip_accents = {strips})" in said
    assert recorded["identity"]["data.strip_accents"] is strips and "data.language" not in recorded["identity"]
    gone_on(run, recorded, tmp_path)
    gone_on(config(source, strip_accents=strips), recorded, tmp_path)
    with pytest.raises(ConfigError, match=rf"data.strip_accents \(there {strips}, here {not strips}\)"):
        gone_on(config(source, strip_accents=not strips), recorded, tmp_path)
    with pytest.raises(ConfigError, match=r"data.language \(there None, here 'tr'\)"):
        gone_on(config(source, language="tr"), recorded, tmp_path)
    shutil.rmtree(corpus.path)  # the cache is emptied; the same text gives the same corpus
    assert gone_on(run, recorded, tmp_path).fingerprint == corpus.fingerprint


def test_each_cleaning_is_a_corpus_of_its_own(tmp_path):
    ways = [{}, {"strip_accents": False}, {"language": "tr"}, {"lowercase": False}, {"language": "az"}]
    ways.append({"character_coverage": 0.95})
    found = [prepared(TURKISH, **way) for way in ways]
    assert len({corpus.path for corpus in found}) == len(ways)
    assert found[0].fingerprint == found[1].fingerprint != found[2].fingerprint == found[4].fingerprint
    assert prepared(TURKISH, language="tr-TR").path == found[2].path
    assert found[2].tokenizer.encode("IŞIK") == found[2].tokenizer.encode("ışık")
    assert "data.language=tr" in text_warnings(found[0])[0] and not text_warnings(found[2])


def test_a_prepared_corpus_brings_its_cleaning(tmp_path):
    corpus = prepared(TURKISH, tmp_path / "c", language="tr")
    _, recorded, _ = begun(config(corpus.path))
    assert recorded["identity"]["data.strip_accents"] is False and recorded["identity"]["data.language"] == "tr"
    begun(config(corpus.path, language="tr", strip_accents=False))
    for wrong, said in (({"language": "de"}, "language = 'tr', not 'de'"), ({"strip_accents": True}, "= False, not")):
        with pytest.raises(ConfigError, match=f"{said}.*; use --config.data") as caught:
            begun(config(corpus.path, **wrong))
        (advised,) = [word.rstrip(",") for word in str(caught.value).split() if word.startswith("--config.")]
        key, value = advised.removeprefix("--config.data.").split("=")
        begun(config(corpus.path, **{key: {"False": False}.get(value, value)}))
    with pytest.raises(ConfigError, match="language = None, not 'tr'; leave it out"):
        begun(config(prepared(TURKISH, tmp_path / "d").path, language="tr"))


@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece"])
def test_a_corpus_of_before_goes_on_as_it_was(kind, tmp_path):
    source = tmp_path / "text.txt"
    source.write_text("\n\n".join(HINDI))
    stripped = prepare([source], tmp_path / "old", tokenizer=kind, vocab_size=300, strip_accents=True)
    if kind == "wordpiece":
        old = of_before(stripped.path)
        assert old["key"] != stripped.manifest["key"]
    _, recorded, _ = begun(config(tmp_path / "old"))
    assert recorded["identity"]["data.strip_accents"] is True  # accents went where case went
    assert gone_on(config(tmp_path / "old"), recorded, tmp_path).fingerprint == stripped.fingerprint
    begun(config(tmp_path / "old", strip_accents=True))
    with pytest.raises(ConfigError, match="strip_accents = True, not False"):
        begun(config(tmp_path / "old", strip_accents=False))
    today = prepare([source], tokenizer=kind, vocab_size=300)
    assert today.fingerprint != stripped.fingerprint  # not handed out for the same text


def test_a_run_of_before_goes_on_with_the_corpus_that_it_began_with(cache, tmp_path):
    source = tmp_path / "text.txt"
    source.write_text("\n\n".join(HINDI))
    run = config(source)
    corpus, recorded, _ = begun(config(source, strip_accents=True))
    old = of_before(corpus.path)
    corpus.path.rename(cache / f"corpus-{old['key'][:24]}")
    recorded["identity"].pop("data.strip_accents")
    for name in ("strip_accents", "language", "character_coverage"):
        recorded["config"]["data"].pop(name)
    recorded["identity_fingerprint"] = identity_fingerprint(resolve(recorded["config"]))
    assert identity_items(resolve(recorded["config"])) == recorded["identity"]
    again = gone_on(run, recorded, tmp_path)
    assert again.fingerprint == corpus.fingerprint and again.tokenizer.encode("में") == again.tokenizer.encode("म")
    assert with_recorded_identity(recorded, run).data.strip_accents is None
    # What is written into the workdir is byte for byte what lies there.
    again.tokenizer.save(tmp_path / "tokenizer")
    assert json.loads((tmp_path / "tokenizer/tokenizer_config.json").read_bytes())["strip_accents"] is None
    # A new run of the same config is another one.
    assert begun(run)[0].fingerprint != corpus.fingerprint
    shutil.rmtree(cache)  # made again with the vocabulary in the workdir, as today's rules would learn another
    assert gone_on(run, recorded, tmp_path).fingerprint == corpus.fingerprint
    shutil.rmtree(cache)
    shutil.rmtree(tmp_path / "tokenizer")
    with pytest.raises(ConfigError, match="the corpus has changed since this run began"):
        gone_on(run, recorded, tmp_path)


def test_a_given_tokenizer_says_itself_how_text_is_cleaned(tmp_path):
    own = prepared(TURKISH, tmp_path / "c", strip_accents=True).path / "tokenizer"
    assert prepared(TURKISH, tokenizer=own, strip_accents=True).tokenizer.strip_accents
    with pytest.raises(ConfigError, match=r"strips accents, which config.data.strip_accents = False cannot change"):
        prepared(TURKISH, tokenizer=own, strip_accents=False)
    with pytest.raises(ConfigError, match=r"lowercases I to i, which config.data.language = 'tr' cannot change"):
        prepared(TURKISH, tokenizer=own, language="tr")
    prepared(TURKISH, tokenizer=own, language="de")
    (tmp_path / "bare.txt").write_bytes((own / "vocab.txt").read_bytes())
    bare = prepared(TURKISH, tmp_path / "b", tokenizer=tmp_path / "bare.txt", language="tr", strip_accents=True)
    assert bare.tokenizer.dotless_i and bare.tokenizer.strip_accents
    begun(config(bare.path, language="tr", strip_accents=True))


def test_the_options_of_prepare(tmp_path, capsys):
    (tmp_path / "hi.txt").write_text("\n\n".join(HINDI))
    (tmp_path / "tr.txt").write_text("\n\n".join(TURKISH))

    def run(name, *options):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        code = main([f"--input={tmp_path / name}", f"--output={tmp_path / 'out'}", "--vocab_size=300", *options])
        printed = capsys.readouterr()
        return code, printed.out, [line for line in printed.err.split("\n") if line and not line.endswith("...")]

    assert run("hi.txt")[::2] == (0, [])
    code, out, warnings = run("hi.txt", "--lowercase", "--strip_accents")
    assert code == 0 and "accents are stripped, since strip_accents = True" in out
    assert "data.strip_accents=False" in warnings[0] and "100% of its letters have no case" in warnings[1]
    code, out, warnings = run("hi.txt", "--strip_accents=false")
    assert "accents are kept, since strip_accents = False" in out and not warnings
    assert "data.language=tr" in run("tr.txt")[2][0]
    assert not any("data.language" in line for line in run("tr.txt", "--language=tr")[2])
    code, _, errors = run("tr.txt", "--language=turkish")
    assert code == 2 and errors == [
        "error: config.data.language = 'turkish' is not a language code (ISO 639), such as tr, de or pt-BR"
    ]
    with pytest.raises(DataError, match="holds another prepared corpus"):  # of another cleaning
        run("tr.txt")
        prepare([tmp_path / "tr.txt"], tmp_path / "out", vocab_size=300, strip_accents=True)
