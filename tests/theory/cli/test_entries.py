"""What ``list`` and ``show`` say of the catalogue is kept, and is what they would say without that."""

import json
import subprocess
import sys

import pytest

import theory
from theory.catalogue import CATALOGUE
from theory.cli import entries, main, runtime


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of its own, and a process that has not imported the catalogue."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(theory, "catalogue", sys.modules["theory.catalogue"])  # which the import below replaces
    monkeypatch.delitem(sys.modules, "theory.catalogue")
    return tmp_path / "sketchprune" / "catalogue.json"


@pytest.fixture
def kept(cache):
    """The same, with what an earlier command has kept."""
    entries.entries(())
    del sys.modules["theory.catalogue"]
    return cache


def said(capsys, *words):
    assert main(words) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [["list"], ["list", "paths/*", "sketch/top-k", "paths/gram"], ["show", "*"]])
def test_what_is_kept_is_what_is_said_without_it(kept, capsys, words):
    quick = said(capsys, *words)
    assert "theory.catalogue" not in sys.modules
    kept.unlink()
    assert said(capsys, *words) == quick
    assert len(quick.splitlines()) > 10


def test_the_whole_catalogue_is_kept_whatever_is_asked_for(cache, capsys):
    said(capsys, "show", "sketch/top-k")
    assert [entry["id"] for entry in json.loads(cache.read_text())["entries"]] == [claim.id for claim in CATALOGUE]


def test_a_second_list_imports_no_jax(kept):
    program = "import sys; from theory.cli import main; sys.exit(main(['list']) or 'jax' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0
    assert len(run.stdout.splitlines()) == len(CATALOGUE)


def test_a_source_that_changed_makes_it_anew(kept, monkeypatch):
    monkeypatch.setattr(runtime, "source_checksum", lambda: "another")
    assert entries._kept() == []
    assert len(entries.entries(())) == len(CATALOGUE)
    assert json.loads(kept.read_text())["sources"] == "another"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"sources": 3}', '{"entries": []}', "no JSON"])
def test_a_damaged_file_is_made_anew(cache, content):
    cache.parent.mkdir()
    cache.write_text(content)
    assert len(entries.entries(())) == len(CATALOGUE)
    assert len(entries._kept()) == len(CATALOGUE)


def test_unknown_claims_and_files_are_not_looked_up_in_what_is_kept(kept, tmp_path):
    with pytest.raises(ValueError, match="an unknown claim; it takes an id or a pattern"):
        entries.entries(["sketch/nothing"])
    with pytest.raises(ValueError, match="cannot be read"):
        entries.entries([str(tmp_path / "nothing.py")])


def test_a_folder_that_cannot_be_written_costs_time_alone(cache, monkeypatch):
    cache.parent.parent.joinpath("sketchprune").write_text("a file where the folder would be")
    assert len(entries.entries(())) == len(CATALOGUE)


def test_a_catalogue_that_is_imported_already_is_neither_kept_nor_read(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert len(entries.entries(())) == len(CATALOGUE)
    assert not (tmp_path / "sketchprune").exists()
