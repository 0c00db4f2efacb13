"""Runs are kept as lines of JSON and read back; tables and histories show their numbers."""

import dataclasses
import io
import json
import math
import subprocess
import sys

import pytest
from rich.console import Console

from benchmarks import __main__ as command
from benchmarks import _record, _results, _tables
from benchmarks._record import OURS, Row, Run, Target

ROWS = (
    Row("sorting", seconds=0.002, compile_s=1.5, roofline=0.4, roof="memory", error=1e-7, memory_mib=12.0),
    Row("sorting", "NumPy", seconds=0.02, ratio=10.0, target=Target("ratio", least=20), note="one core"),
    Row("exponent in d", value=1.1, target=Target("value", most=1.2)),
    Row("sorting", "absent", target=Target("ratio", least=1)),
)


def run_of(rows=ROWS, *, subject="sorting", hardware="2 x CPU"):
    return Run(subject, "2026-01-01T00:00:00+00:00", "abc", hardware, {"jax": "1"}, 0.5, 3.0, 100.0, tuple(rows))


def text(table):
    console = Console(file=io.StringIO(), width=250)
    console.print(table)
    return console.file.getvalue()


def test_a_run_is_one_line_and_comes_back_the_same():
    run = run_of()
    assert "\n" not in run.line()
    assert Run.parse(run.line()) == run
    assert "null" not in run.line()  # what was not measured is left out


def test_runs_are_appended_and_read_by_subject_in_order(tmp_path):
    runs = [run_of(), run_of(ROWS[:1]), run_of(subject="other")]
    for run in runs:
        _record.keep(run, tmp_path / "results")
    assert _record.kept(tmp_path / "results") == [runs[2], *runs[:2]]
    assert _record.kept(tmp_path / "results", ["sorting"]) == runs[:2]
    assert _record.kept(tmp_path / "nothing") == []


def test_numbers_that_json_does_not_have_come_back_as_well():
    run = run_of([Row("a", seconds=math.nan, ratio=math.inf, value=-math.inf, compile_s=math.nan)])

    def refused(token):
        raise AssertionError(f"{token} is no JSON")

    json.loads(run.line(), parse_constant=refused)
    (row,) = Run.parse(run.line()).rows
    assert math.isnan(row.seconds) and math.isnan(row.compile_s)
    assert (row.ratio, row.value) == (math.inf, -math.inf)


@pytest.mark.parametrize("line", ["", "[]", "{}", '{"rows": 3}', '{"rows": [{"nothing": 1}]}', "no JSON"])
def test_what_is_no_run_is_refused(line):
    with pytest.raises(ValueError, match="line is .*; it takes a run as one line of JSON"):
        Run.parse(line)


@pytest.mark.parametrize(
    ("target", "number", "met"),
    [
        (Target("ratio", least=2), 2.0, True),
        (Target("ratio", least=2), 1.9, False),
        (Target("seconds", most=0.4), 0.4, True),
        (Target("seconds", most=0.4), 0.5, False),
        (Target("ratio", least=0.5, most=2), 3.0, False),
        (Target("ratio", least=0.5, most=2), 1.0, True),
        (Target("ratio", least=0.5), math.nan, False),
        (Target("ratio", least=2), None, None),
    ],
)
def test_a_target_is_met_missed_or_not_measured(target, number, met):
    row = Row("sorting", **{target.of: number}, target=target)
    assert row.met is met
    said = {True: "met", False: "missed", None: "not measured"}[met]
    assert said in _tables.target_text(row)


def test_a_row_without_a_target_meets_none():
    assert Row("sorting", seconds=1.0).met is None
    assert _tables.target_text(Row("sorting", seconds=1.0)) == ""


def test_measured_takes_the_rows_in_order_and_says_where():
    run = _record.measured("sorting", iter(ROWS))
    assert run.rows == ROWS
    assert (run.subject, run.versions["jax"]) == ("sorting", __import__("jax").__version__)
    assert run.hardware and run.commit and run.memory_mib > 10
    assert Run.parse(run.line()) == run


def failing_rows():
    yield ROWS[0]
    raise RuntimeError("out of [memory]")


def test_a_row_that_fails_leaves_those_before_it(capsys):
    run = _record.measured("sorting", failing_rows())
    assert (run.rows, run.failed) == (ROWS[:1], "RuntimeError: out of [memory]")
    assert "Traceback" in capsys.readouterr().err
    assert Run.parse(run.line()) == run
    assert "failed after 1 rows: RuntimeError: out of [memory]" in " ".join(text(_tables.run_table(run)).split())


def git(folder, *words):
    options = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *options, *words], cwd=folder, check=True, capture_output=True)


def test_a_commit_with_changed_or_new_modules_is_marked(tmp_path, monkeypatch):
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    monkeypatch.setattr(_record, "__file__", str(folder / "_record.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert _record._commit() == "unknown"
    git(tmp_path, "init")
    (folder / "old.py").write_text("1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    clean = _record._commit()
    (folder / "notes.txt").write_text("no module")
    assert not clean.endswith("+") and _record._commit() == clean
    (folder / "new.py").write_text("2\n")
    assert _record._commit() == clean + "+"
    (folder / "new.py").unlink()
    (folder / "old.py").write_text("3\n")
    assert _record._commit() == clean + "+"


def test_the_table_of_a_run_leaves_empty_columns_out():
    shown = text(_tables.run_table(run_of()))
    assert all(word in shown for word in ("2 ms", "10.0x", "40% memory", "1.0e-07", "12 MiB", "missed", "met"))
    assert "compile" in shown
    assert "compile" not in text(_tables.run_table(run_of([dataclasses.replace(ROWS[0], compile_s=None)])))


def test_brackets_are_shown_as_they_are():
    run = run_of([Row("of a matrix [a, b]", "[x]", seconds=1.0, note="for each [a, b]")])
    for table in (_tables.run_table(run), _tables.history_table(_tables.histories([run]))):
        assert "of a matrix [a, b]" in text(table) and "[x]" in text(table)
    assert "for each [a, b]" in text(_tables.run_table(run))


def test_histories_have_first_best_last_and_change_by_machine():
    def runs(seconds, ratio, hardware):
        return run_of([Row("a", seconds=seconds), Row("a", "peer", ratio=ratio)], hardware=hardware)

    found = _tables.histories([runs(4.0, 2.0, "x"), runs(1.0, 8.0, "x"), runs(2.0, 3.0, "x"), runs(9.0, 9.0, "y")])
    ours, peer, other, _ = found
    assert (ours.numbers, ours.best, ours.change) == ((4.0, 1.0, 2.0), 1.0, -0.5)
    assert (peer.quantity, peer.numbers, peer.best, peer.change) == ("ratio", (2.0, 8.0, 3.0), 8.0, 0.5)
    assert (other.hardware, other.numbers) == ("y", (9.0,))
    shown = text(_tables.history_table(found[:2]))
    assert "-50%" in shown and "+50%" in shown


def test_the_better_direction_is_that_of_the_target():
    rows = [[Row("a", ratio=ratio, target=Target("ratio", most=2))] for ratio in (1.5, 1.0)]
    (history,) = _tables.histories(run_of(row) for row in rows)
    assert history.best == 1.0
    assert math.isnan(history._replace(numbers=(0.0, 1.0)).change)


@pytest.mark.parametrize(
    ("numbers", "best"), [((0.95, 3.0), 0.95), ((3.0, 0.5), 0.5), ((0.25, 3.0), 3.0), ((0.0, 9.0), 9.0)]
)
def test_the_best_of_a_target_with_two_sides_is_nearest_to_1(numbers, best):
    target = Target("ratio", least=1 / 1.5, most=1.5)
    (history,) = _tables.histories(run_of([Row("a", ratio=ratio, target=target)]) for ratio in numbers)
    assert history.best == best


@pytest.mark.parametrize(
    ("quantity", "value", "said"),
    [
        ("seconds", 2.0, "2 s"),
        ("seconds", 0.0123, "12.3 ms"),
        ("seconds", 4.5e-5, "45 µs"),
        ("seconds", 0.0, "0 ns"),
        ("ratio", 1234.0, "1,234x"),
        ("memory_mib", 1500.4, "1,500 MiB"),
        ("value", 0.85, "0.85"),
        ("error", 0.0, "0.0e+00"),
    ],
)
def test_numbers_have_units(quantity, value, said):
    assert _tables.number(quantity, value) == said


# --- the command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(_results, "FOLDER", tmp_path)
    return tmp_path


def test_a_benchmark_with_rows_is_kept_and_printed(folder, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.roofline.rows", lambda: iter(ROWS))
    assert command.run(("roofline",)) == 0
    assert "sorting" in capsys.readouterr().out
    assert [run.rows for run in _record.kept(folder)] == [ROWS]
    assert command.run(("compare", "roofline")) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("first", "best", "last", "20 ms"))


def test_a_benchmark_that_fails_is_kept_and_fails(folder, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.roofline.rows", failing_rows)
    assert command.run(("roofline",)) == 1
    assert [run.failed for run in _record.kept(folder)] == ["RuntimeError: out of [memory]"]
    assert "sorting" in capsys.readouterr().out


@pytest.fixture
def started(monkeypatch):
    """The names of benchmarks that are started in processes, which return codes that a test may set."""
    codes: dict[str, int] = {}
    names = []

    def run(words):
        assert words[:-1] == [sys.executable, "-m", "benchmarks"]
        names.append(words[-1])
        return subprocess.CompletedProcess(words, codes.get(words[-1], 0))

    monkeypatch.setattr(command.subprocess, "run", run)
    return names, codes


@pytest.mark.parametrize("code", [1, -9, -11])
def test_a_subject_that_fails_or_is_killed_fails_the_command_and_is_named(started, capsys, code):
    names, codes = started
    assert command.run(("linear", "ntk")) == 0
    codes["linear"] = code
    assert command.run(("linear", "ntk")) == 1
    assert f"error: these failed: linear (return code {code})" in capsys.readouterr().err
    assert names == ["linear", "ntk"] * 2


def test_without_names_the_benchmarks_of_speed_run(started, capsys):
    names, _ = started
    assert command.run() == 0
    others = ["defects", "identities", "odd_data", "seconds", "verifier"]
    assert sorted([*names, *others]) == sorted(command.BENCHMARKS)
    said = capsys.readouterr().out
    assert f"left out, since they measure no speed: {', '.join(others)}; python -m benchmarks NAME" in said


def test_unknown_benchmarks_and_damaged_records_are_refused(folder, capsys):
    assert command.run(("compare", "nothing")) == 2
    assert "names holds 'nothing'; it takes" in capsys.readouterr().err
    assert command.run(("compare",)) == 0
    assert "no run is kept yet" in capsys.readouterr().out
    (folder / "linear.jsonl").write_text(json.dumps({"rows": []}) + "\n")
    assert command.run(("compare",)) == 2
    assert "it takes a run as one line of JSON" in capsys.readouterr().err


def test_every_benchmark_has_rows_or_keeps_what_it_finds_itself():
    import importlib

    for name in command.BENCHMARKS:
        module = importlib.import_module(f"benchmarks.{name}")
        assert callable(getattr(module, "rows", None) or module.main), name
        assert hasattr(module, "rows") or name in command.OF_THE_VERIFIER
    assert OURS == "sketchprune"
