"""What is on disk after each verdict is enough to go on, and belongs to one run."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from sketchprune._files import strict_json, write_atomically
from tests.support.claims import claim
from theory.report import journal
from theory.report.journal import NAME, append, begin
from theory.report.run import Run, Selected
from theory.verdict import REFUTED, SUPPORTED, CaseVerdict, Replay, Verdict

RUN = Run(seed=0, tier="quick", data="digits", data_crc32=7, versions={"sketchprune": "0.1.0", "jax": "0.10.2"})
CASE = CaseVerdict(SUPPORTED, 4096, 32, 31, 0.5, 0.75, 1.5, (0.4, 0.6), "exact binomial")
VERDICT = Verdict("sketch/one", "bound", SUPPORTED, SUPPORTED, 0.1, {"digits": CASE}, {"half": REFUTED}, None, 2.5)


def selected(id, file_crc32=None):
    return Selected(claim(id), id, file_crc32)


def test_verdicts_come_back(tmp_path):
    folder = tmp_path / "deep" / "report"
    assert begin(folder, RUN, resume=False) == {}
    append(folder, selected("sketch/one"), VERDICT)
    append(folder, selected("sketch/two", 5), replace(VERDICT, id="sketch/two"))
    assert begin(folder, RUN, resume=True) == {
        ("sketch/one", None): VERDICT,
        ("sketch/two", 5): replace(VERDICT, id="sketch/two"),
    }


def test_a_line_cut_short_by_a_kill_is_dropped_and_written_anew(tmp_path):
    begin(tmp_path, RUN, resume=False)
    append(tmp_path, selected("sketch/one"), VERDICT)
    whole = (tmp_path / NAME).read_bytes()
    append(tmp_path, selected("sketch/two"), VERDICT)
    full = (tmp_path / NAME).read_bytes()
    for cut in range(len(whole), len(full), 37):
        (tmp_path / NAME).write_bytes(full[:cut])
        assert list(begin(tmp_path, RUN, resume=True)) == [("sketch/one", None)]
        assert (tmp_path / NAME).read_bytes() == whole
        append(tmp_path, selected("sketch/two"), VERDICT)
        assert (tmp_path / NAME).read_bytes() == full


def test_a_kill_before_the_first_line(tmp_path):
    (tmp_path / NAME).write_text('{"seed"')
    assert begin(tmp_path, RUN, resume=True) == {}
    assert begin(tmp_path / "new", RUN, resume=True) == {}


def test_without_resume_the_journal_starts_empty(tmp_path):
    begin(tmp_path, RUN, resume=False)
    append(tmp_path, selected("sketch/one"), VERDICT)
    assert begin(tmp_path, replace(RUN, seed=1), resume=False) == {}
    assert len((tmp_path / NAME).read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seed": 1}, r"another run \(seed 0, not 1\); it takes the settings of that run"),
        ({"tier": "full"}, r"\(tier quick, not full\)"),
        ({"data": "x.npz", "data_crc32": 8}, r"\(data digits, not x.npz; checksum of data 7, not 8\)"),
        ({"versions": {"sketchprune": "0.2.0", "jax": "0.10.2"}}, r"\(sketchprune 0.1.0, not 0.2.0\)"),
        ({"schema": 1}, r"\(schema 4, not 1\)"),
    ],
)
def test_another_run_is_refused_and_its_journal_left_alone(tmp_path, change, message):
    begin(tmp_path, RUN, resume=False)
    append(tmp_path, selected("sketch/one"), VERDICT)
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(ValueError, match=message):
        begin(tmp_path, replace(RUN, **change), resume=True)
    assert (tmp_path / NAME).read_bytes() == before


def test_a_journal_of_another_schema_is_not_merged(tmp_path):
    begin(tmp_path, replace(RUN, schema=3), resume=False)
    with pytest.raises(ValueError, match="folder is .*, whose schema is 3; it takes schema 4"):
        journal.read(tmp_path)


def test_what_is_no_journal_is_refused(tmp_path):
    (tmp_path / NAME).write_text("hello\n")
    with pytest.raises(ValueError, match="whose line 1 is no line of a journal .*; it takes another folder, or"):
        begin(tmp_path, RUN, resume=True)
    for line in ("[1]", "null", "{}", '{"seed":0}'):
        (tmp_path / NAME).write_text(line + "\n")
        with pytest.raises(ValueError, match="whose line 1 is no line of a journal"):
            begin(tmp_path, RUN, resume=True)


def test_a_line_that_changed_is_refused(tmp_path):
    """Whatever changed, and though the line is still one of JSON with the same fields."""
    begin(tmp_path, RUN, resume=False)
    append(tmp_path, selected("sketch/one"), VERDICT)
    append(tmp_path, selected("sketch/two"), VERDICT)
    text = (tmp_path / NAME).read_text()
    for old, new in (("SUPPORTED", "VACUOUS"), ('"trials":4096', '"trials":4097'), ("sketch/one", "sketch/six")):
        (tmp_path / NAME).write_text(text.replace(old, new, 1))
        with pytest.raises(ValueError, match=r"whose line 2 is no line of a journal \(its checksum is wrong\)"):
            begin(tmp_path, RUN, resume=True)
    (tmp_path / NAME).write_text(text.replace('"seed":0', '"seed":1'))
    with pytest.raises(ValueError, match="whose line 1 is no line of a journal"):
        begin(tmp_path, replace(RUN, seed=1), resume=True)
    (tmp_path / NAME).write_text(text)
    assert len(begin(tmp_path, RUN, resume=True)) == 2


@pytest.mark.parametrize(
    "entry",
    [
        {"argument": "sketch/one"},
        {"argument": "sketch/one", "file_crc32": None, "verdict": None},
        {"argument": "sketch/one", "file_crc32": None, "verdict": {"id": "sketch/one"}},
        {"argument": ["sketch/one"], "file_crc32": None, "verdict": strict_json(asdict(VERDICT))},
        {"argument": "sketch/one", "file_crc32": None, "verdict": strict_json(asdict(VERDICT)) | {"verdict": "TRUE"}},
        {"argument": "sketch/one", "file_crc32": None, "verdict": strict_json(asdict(VERDICT)) | {"cases": [1]}},
    ],
)
def test_a_whole_line_that_is_no_verdict_is_refused(tmp_path, entry):
    begin(tmp_path, RUN, resume=False)
    with open(tmp_path / NAME, "a") as file:
        file.write(journal._line(entry))
    with pytest.raises(ValueError, match="whose line 2 is no line of a journal"):
        begin(tmp_path, RUN, resume=True)


def test_nothing_is_added_to_a_journal_that_is_gone(tmp_path):
    """A new file would have no header, and the next run could not read it."""
    begin(tmp_path, RUN, resume=False)
    (tmp_path / NAME).unlink()
    with pytest.raises(FileNotFoundError):
        append(tmp_path, selected("sketch/one"), VERDICT)
    assert not (tmp_path / NAME).exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "report"):
        with pytest.raises(
            ValueError, match=r"out is .*file.*, which cannot be written .*; it takes a folder that can be written"
        ):
            begin(folder, RUN, resume=False)


def test_write_replaces_at_once_and_leaves_nothing_behind(tmp_path):
    write_atomically(tmp_path / "a", "old")
    write_atomically(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"
    write_atomically(tmp_path / "a", b"\xff\r\n")
    assert (tmp_path / "a").read_bytes() == b"\xff\r\n"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_atomically(tmp_path / "folder", "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "folder"]


def test_strict_json_of_any_verdict():
    values = {"w": np.array([1.0, np.nan]), "sizes": (np.int64(3),)}
    wild = replace(
        VERDICT,
        cases={"digits": replace(CASE, measured=math.inf, looseness=math.nan, interval=(-math.inf, np.float64(0.5)))},
        counterexample=Replay("digits", 0, "trials", component=3, measured=math.nan, theory=1.0, values=values),
    )
    entry = json.loads(json.dumps(strict_json(asdict(wild)), allow_nan=False))
    case = entry["cases"]["digits"]
    assert case["measured"] is None and case["interval"] == [None, 0.5]
    assert entry["counterexample"]["component"] == 3 and entry["counterexample"]["measured"] is None
    assert entry["counterexample"]["values"] == {"w": [1.0, None], "sizes": [3]}
    again = Verdict.from_json(entry)
    assert strict_json(asdict(again)) == entry and math.isnan(again.cases["digits"].measured)
    assert Verdict.from_json(strict_json(asdict(VERDICT))) == VERDICT


def test_the_command_is_quoted_for_a_shell():
    assert RUN.command("sketch/one") == "sketchprune verify sketch/one --tier quick --seed 0"
    spaced = replace(RUN, data="my data.npz").command("my file.py::a/b", "sketch/*")
    assert spaced == "sketchprune verify 'my file.py::a/b' 'sketch/*' --tier quick --seed 0 --data 'my data.npz'"
