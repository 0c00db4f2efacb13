"""Shards: the claims are shared out, and the folders of all shards make the report of the whole run."""

import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.support.command import CATALOGUE, FILE, run, set_up, stand_in, timeless, verdict_on
from theory.cli import runtime
from theory.cli.shard import Shard, balanced
from theory.report.run import Selected
from theory.verdict import INCONCLUSIVE, Certificate

pytestmark = pytest.mark.usefixtures("jax_settings")
ITEMS = [Selected(claim, claim.id) for claim in CATALOGUE]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    return set_up(tmp_path, monkeypatch)


def shard(capsys, number, of, *words):
    folder = f"shard-{number}"
    return run(capsys, "verify", *words, "--tier", "quick", "--shard", f"{number}/{of}", "--out", folder)


def contents(folder):
    """Every file of a report, without times."""
    texts = {}
    for path in sorted(folder.rglob("*.*")):
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                texts[str(path.relative_to(folder))] = {name: array.tolist() for name, array in arrays.items()}
            continue
        text = path.read_bytes().decode(errors="replace")
        text = re.sub(r'"(elapsed_s|crc32)": ?[^,}\n]*', "", text)
        texts[str(path.relative_to(folder))] = re.sub(
            r'[\d.e+]+ s\b|data-seconds="[^"]*"|[\d.]+<span class="heard"> seconds', "", text
        )
    return texts


def ids(items):
    return [item.argument for item in items]


def test_claims_are_shared_out_by_their_seconds():
    names = [f"family/{letter}" for letter in "abcdefgh"]
    items = [Selected(replace(CATALOGUE[0], id=name), name) for name in names]
    seconds = dict(zip(names, (1.0, 50.0, 2.0, 20.0, 20.0, 4.0, 9.0, 1.0), strict=True))
    parts = [balanced(items, Shard(number, 2), seconds) for number in (1, 2)]
    assert sorted(ids(parts[0]) + ids(parts[1])) == names
    loads = [sum(seconds[item.argument] for item in part) for part in parts]
    assert loads == [54.0, 53.0]
    assert [ids(part) for part in parts] == [sorted(ids(part)) for part in parts]  # in the order of the selection
    even = dict.fromkeys(names, 2.0)
    assert set(ids(balanced(items, Shard(1, 3), even))) == set(ids(balanced(items[::-1], Shard(1, 3), even)))
    for number in (1, 2):
        assert set(ids(balanced(items[::-1], Shard(number, 2), seconds))) == set(ids(parts[number - 1]))


def test_unknown_claims_count_as_the_median_and_each_shard_has_one():
    items = [Selected(replace(CATALOGUE[0], id=name), name) for name in ("a/a", "a/b", "a/c", "a/d")]
    known = {"x/x": 0.0, "x/y": 3.0, "x/z": 9.0, "a/a": 6.0, "a/d": 1.0}
    assert ids(balanced(items, Shard(1, 2), known)) == ["a/a", "a/d"]
    items.pop()
    assert [ids(balanced(items, Shard(number, 3), dict.fromkeys(known, 0.0))) for number in (1, 2, 3)] == [
        ["a/a"], ["a/b"], ["a/c"],
    ]  # fmt: skip
    assert ids(balanced(items, Shard(), {})) == ["a/a", "a/b", "a/c"]


def test_the_table_has_seconds_of_the_catalogue():
    from theory.catalogue import CATALOGUE as real
    from theory.cli.shard import SECONDS_FILE

    table = json.loads(SECONDS_FILE.read_text())
    assert all(math.isfinite(seconds) and seconds > 0 for seconds in table.values())
    assert len(set(table) & {claim.id for claim in real}) <= len(table)


def with_a_smaller_counterexample(claim, **settings):
    verdict = verdict_on(claim, **settings)
    found = verdict.counterexample
    if found is None:
        return verdict
    proof = Certificate(True, margin=0.25, bits=64)
    smaller = replace(found, found_by="shrinking", values={"w": [1.0]}, program="print(1)\n", certificate=proof)
    return replace(verdict, counterexample=replace(found, smaller=smaller))


def test_merged_shards_are_the_whole_run(here, capsys, monkeypatch):
    stand_in(monkeypatch, with_a_smaller_counterexample)
    (here / "mine.py").write_text(FILE)
    words = ("mine.py::my/false", "paths/*", "sketch/*")
    code, _, _ = run(capsys, "verify", *words, "--tier", "quick", "--junit", "whole.xml")
    assert code == 1
    whole = contents(here / "report")
    assert {"counterexamples/paths-false.npz", "replay/my-false.py", "verdicts.jsonl"} < set(whole)
    sizes = []
    for number in (1, 2, 3):
        _, out, _ = shard(capsys, number, 3, *words)
        sizes.append(int(re.search(r"(\d) claim", out)[1]))
        assert f", shard {number}/3\n" in out
    assert sorted(sizes) == [1, 1, 2]
    code, out, err = run(capsys, "merge", "shard-3", "shard-1", "shard-2", "--out", "merged", "--junit", "merged.xml")
    assert code == 1 and err == ""
    assert "4 claims, tier quick, seed 0, data digits\n" in out and "not as expected: my/false" in out
    assert contents(here / "merged") == whole
    assert timeless(here, "merged") == timeless(here)
    assert ids_of(here / "merged") == ["my/false", "paths/false", "sketch/one", "sketch/two"]
    merged = json.loads((here / "merged" / "verdicts.json").read_text())["claims"]
    assert all(len(case["looseness_quantiles"]) == 7 for claim in merged for case in claim["cases"].values())
    texts = [re.sub(r'time="[\d.]+"', "", (here / name).read_text()) for name in ("whole.xml", "merged.xml")]
    assert texts[0] == texts[1]


def ids_of(folder):
    return [claim["id"] for claim in json.loads((folder / "verdicts.json").read_text())["claims"]]


def test_a_claim_that_failed_is_merged_too(here, capsys, monkeypatch):
    def verify(claim, **settings):
        if claim.id == "sketch/two":
            raise RuntimeError("no luck")
        return verdict_on(claim, **settings)

    stand_in(monkeypatch, verify)
    codes = sorted(shard(capsys, number, 2)[0] for number in (1, 2))
    assert codes == [0, 1]
    code, out, _ = run(capsys, "merge", "shard-1", "shard-2", "--out", "merged")
    assert code == 1 and "could not be verified: sketch/two" in out
    assert ids_of(here / "merged") == ["sketch/one", "paths/false"]


def test_merge_is_strict_where_it_is_told(here, capsys, monkeypatch):
    stand_in(monkeypatch, lambda claim, **settings: replace(verdict_on(claim, **settings), verdict=INCONCLUSIVE))
    for number in (1, 2):
        shard(capsys, number, 2, "sketch/*")
    assert run(capsys, "merge", "shard-1", "shard-2", "--out", "merged")[0] == 1
    assert run(capsys, "merge", "shard-1", "shard-2", "--out", "merged", "--strict")[0] == 3


def test_a_shard_is_resumed_as_itself_alone(here, capsys, monkeypatch):
    assert shard(capsys, 1, 2)[0] == 0
    again = ("verify", "--tier", "quick", "--out", "shard-1", "--resume")
    for words in ([], ["--shard", "2/2"]):
        code, _, err = run(capsys, *again, *words)
        assert code == 2 and "shard 1/2, not " in err
    code, _, err = run(capsys, *again, "sketch/*", "--shard", "1/2")
    assert code == 2 and "selection '*', not 'sketch/*'" in err
    stand_in(monkeypatch, lambda claim, **settings: pytest.fail("it was verified already"))
    assert run(capsys, *again, "--shard", "1/2")[0] == 0


def test_an_interrupted_shard_says_how_to_go_on(here, capsys, monkeypatch):
    def verify(claim, **settings):
        raise KeyboardInterrupt

    stand_in(monkeypatch, verify)
    code, _, err = shard(capsys, 2, 2)
    assert code == 130 and "--tier quick --seed 0 --shard 2/2 --out shard-2 --resume" in err
    stand_in(monkeypatch, verdict_on)
    assert shard(capsys, 1, 2)[0] == 0
    code, _, err = run(capsys, "merge", "shard-1", "shard-2", "--out", "merged")
    assert code == 2 and re.search(r"folder is shard-2, which has no verdict on \S+ yet; it takes a shard that", err)
    assert not (here / "merged").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--seed", "1"], r"\(seed 1, not 0\)"),
        (["--tier", "full"], r"\(tier full, not quick\)"),
        (["--shard", "2/3"], r"\(shard 1/3, not 1/2\)"),
        (["sketch/*"], r"\(selection 'sketch/\*', not '\*'\)"),
    ],
)
def test_shards_of_another_run_are_refused(here, capsys, words, message):
    shard(capsys, 1, 2)
    options = {"--tier": "quick", "--shard": "2/2", "--out": "other"}
    options |= dict(zip(words[::2], words[1::2], strict=True)) if len(words) == 2 else {}
    selection = words if len(words) == 1 else []
    run(capsys, "verify", *selection, *[word for pair in options.items() for word in pair])
    code, _, err = run(capsys, "merge", "shard-1", "other", "--out", "merged")
    assert code == 2 and re.search("folder is other, which holds a shard of another run than shard-1 " + message, err)


def test_shards_of_another_version_are_refused(here, capsys, monkeypatch):
    shard(capsys, 1, 2)
    versions = runtime.versions()
    monkeypatch.setattr(runtime, "versions", lambda: versions | {"jax": "0.99"})
    shard(capsys, 2, 2)
    code, _, err = run(capsys, "merge", "shard-1", "shard-2", "--out", "merged")
    assert code == 2 and f"(jax 0.99, not {versions['jax']})" in err
    monkeypatch.setattr(runtime, "versions", lambda: versions)
    shard(capsys, 2, 2)
    monkeypatch.setattr(runtime, "source_checksum", lambda: "abc")
    code, _, err = run(capsys, "merge", "shard-1", "shard-2", "--out", "merged")
    assert code == 2 and f"is of other claims than those here (source {versions['source']}, not abc)" in err


def test_missing_and_disagreeing_shards_are_refused(here, capsys, monkeypatch):
    for number in (1, 2):
        shard(capsys, number, 3)
    code, _, err = run(capsys, "merge", "shard-1", "shard-2", "--out", "merged")
    assert code == 2 and "folder has no shard 3/3; it takes the folders of all shards" in err
    shutil.copytree(here / "shard-1", here / "copy")
    shard(capsys, 3, 3)
    folders = ("shard-1", "copy", "shard-2", "shard-3")
    assert run(capsys, "merge", *folders, "--out", "merged")[0] == 0
    stand_in(monkeypatch, lambda claim, **settings: replace(verdict_on(claim, **settings), tolerance=0.2))
    shard(capsys, 1, 3)
    code, _, err = run(capsys, "merge", *folders, "--out", "merged")
    assert code == 2 and re.search(
        r"folder is copy, which disagrees with shard-1 on \S+; it takes each shard once", err
    )


def test_a_file_that_changed_between_shards_is_refused(here, capsys):
    (here / "mine.py").write_text(FILE)
    shard(capsys, 1, 2, "mine.py")
    (here / "mine.py").write_text(FILE + "# better\n")
    shard(capsys, 2, 2, "mine.py")
    code, _, err = run(capsys, "merge", "shard-1", "shard-2", "--out", "merged")
    assert code == 2
    assert "folder is shard-1, which has a verdict on another text of mine.py; it takes shards of the file as" in err


@pytest.mark.parametrize(
    "words, message",
    [
        (["verify", "--shard", "0/2"], "shard is 0/2; it takes i/N with i from 1 to N"),
        (["verify", "--shard", "3/4"], "shard is 3/4 of 3 claims; it takes at most as many shards as claims"),
        (["verify", "--junit", "absent/a.xml"], "junit is absent/a.xml; it takes a file in a folder that exists"),
        (["merge", "--out", "merged"], "it takes the folders that verify --shard wrote"),
        (["merge", "empty", "--out", "merged"], "folder is empty, which holds no verdicts.jsonl; it takes a folder"),
        (["merge", "whole", "--out", "merged"], "folder is whole, which holds a whole run; it takes one that verify"),
        (["merge", "whole", "--out", "./whole"], "out is whole, the folder of a shard; it takes another folder"),
        (["merge", "whole"], "--out"),
    ],
)
def test_wrong_usage(here, capsys, words, message):
    (here / "empty").mkdir()
    run(capsys, "verify", "--out", "whole")
    code, out, err = run(capsys, *words)
    assert code == 2 and message in re.sub(r"\s+", " ", err + out)
    assert not (here / "merged").exists()
