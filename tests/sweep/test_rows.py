"""The table of a sweep: what is written is read back, whatever a kill cuts off."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchprune.sweep import Row, append, read
from tests.support import few
from tests.support.sweeps import timeless

ROW = Row("mlp", "snip", "top", 1, 0.1, 0.1, 7, 0.25, 0.9, 100, 1.5, False)
FAILED = Row(
    "mlp", 'my "score", 2', "", 100, 1 / 3, math.nan, 2**40, math.nan, math.nan, 0, 0.0, True, "no mask, at all"
)
HEADER = "network,score,sampler,rounds,density,realised_density,seed,train_loss,test_accuracy,steps,seconds,empty_layer"

numbers = st.floats(allow_nan=True, allow_infinity=True)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=6).map(lambda text: " ".join(text.split()))
any_row = st.builds(
    Row, network=texts, score=texts, sampler=texts, rounds=st.integers(0, 10**6), density=numbers,
    realised_density=numbers, seed=st.integers(0, 2**62), train_loss=numbers, test_accuracy=numbers,
    steps=st.integers(0, 10**9), seconds=st.just(0.0), empty_layer=st.booleans(), failure=texts,
)  # fmt: skip


def test_rows_are_read_as_they_were_written(tmp_path_factory):
    @given(st.lists(st.lists(any_row, max_size=3), max_size=3))
    @few(60)
    def attempt(groups):
        path = tmp_path_factory.mktemp("rows") / "runs.csv"
        for rows in groups:
            append(path, rows)
        assert timeless(read(path)) == timeless([row for rows in groups for row in rows])

    attempt()


def test_a_torn_last_line_is_dropped_wherever_it_is_cut(tmp_path):
    append(tmp_path / "whole.csv", [ROW, FAILED])
    whole = (tmp_path / "whole.csv").read_bytes()
    lines = whole.count(b"\n")
    assert lines == 3
    for length in range(len(whole) + 1):
        path = tmp_path / "cut.csv"
        path.write_bytes(whole[:length])
        kept = max(whole[:length].count(b"\n") - 1, 0)
        assert timeless(read(path)) == timeless([ROW, FAILED][:kept])
        append(path, [FAILED])  # after the cut
        assert timeless(read(path)) == timeless([*[ROW, FAILED][:kept], FAILED])


def test_text_of_several_lines_is_one(tmp_path):
    append(tmp_path / "runs.csv", [Row(*list(vars(ROW).values())[:-1], failure="first\nsecond\r\n third")])
    assert read(tmp_path / "runs.csv")[0].failure == "first second third"


def test_nothing_is_no_rows(tmp_path):
    assert read(tmp_path / "none.csv") == []
    (tmp_path / "empty.csv").write_bytes(b"")
    assert read(tmp_path / "empty.csv") == []
    append(tmp_path / "empty.csv", [])
    assert (tmp_path / "empty.csv").read_text() == HEADER + ",failure\n" and read(tmp_path / "empty.csv") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n", "bad.csv has the header a,b; it takes network,score"),
        (f"{HEADER}\n", "bad.csv has the header network,score"),
        (f"{HEADER},failure\nmlp,snip\n", "bad.csv has 'mlp,snip' in line 2; it takes network"),
        (f"{HEADER},failure\nmlp,s,t,1,.1,.1,0,1,1,1,1,perhaps,\n", "perhaps,' in line 2"),
        (f"{HEADER},failure\nmlp,s,t,1.5,.1,.1,0,1,1,1,1,False,\n", "line 2; it takes"),
        (b"\xff\n", "bad.csv cannot be read"),
    ],
)
def test_a_malformed_table(tmp_path, content, message):
    (tmp_path / "bad.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "bad.csv")
