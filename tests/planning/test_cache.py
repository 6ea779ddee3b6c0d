"""Analyses are kept, found again, and made again where their file is damaged."""

import pytest

from bertjax.planning.programs import Analysis, cached_analysis, program_key

FOUND = Analysis(12, 1.5, 2.5, ({"kind": "all-reduce", "bytes_sent": 3.0},))
pytestmark = pytest.mark.smoke


class Text:
    def __init__(self, text):
        self.text = text

    def as_text(self):
        return self.text


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path))
    return tmp_path / "plans"


def refuse():
    raise AssertionError("compiled again")


def test_what_was_made_is_found(folder):
    assert cached_analysis("key", lambda: FOUND) == FOUND
    assert cached_analysis("key", refuse) == FOUND
    assert [path.name for path in folder.iterdir()] == ["key.json"]


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[1]", b'{"total": 1}', b'{"collectives": [], "other": 2}', b"\xff\xfe"]
)
def test_a_damaged_file_is_made_again(folder, damage):
    cached_analysis("key", lambda: FOUND)
    (folder / "key.json").write_bytes(damage)
    assert cached_analysis("key", lambda: FOUND) == FOUND
    assert cached_analysis("key", refuse) == FOUND


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "file"))
    assert cached_analysis("key", lambda: FOUND) == FOUND


def test_the_key_holds_program_topology_effort_and_flags(monkeypatch):
    keys = {program_key(Text(t), name, quick) for t in "ab" for name in ("v5e:2x2", "v6e:2x2") for quick in (0, 1)}
    monkeypatch.setenv("XLA_FLAGS", "--xla_other=1")
    keys.add(program_key(Text("a"), "v5e:2x2", False))
    assert len(keys) == 9
    assert program_key(Text("a"), "v5e:2x2", False) in keys
