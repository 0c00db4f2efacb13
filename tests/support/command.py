"""The command with a stand-in for the verifier: claims of which only the ids matter, and what a run wrote."""

import json
import os
import re
import sys
from types import SimpleNamespace

from theory.claim import Case, Claim, Source
from theory.cli import main
from theory.kinds import Bound
from theory.verdict import REFUTED, SUPPORTED, CaseVerdict, Decision, Replay, Verdict

FILE = """
from theory.claim import Case, Claim, Source
from theory.kinds import Bound

def claim(id):
    return Claim(id=id, title="mine", statement="a = b", sources=(Source("bar2023sketching"),), kind=Bound(),
                 cases=(Case("digits", lambda key, data: key),), trial=lambda instance, outcome: {})

GOOD, FALSE = claim("my/good"), claim("my/false")
"""


def claim(id, **fields):
    return Claim(
        **dict(
            id=id,
            title=f"About {id}",
            statement=r"\lVert x\rVert \le 1",
            sources=(Source("drineas2006matmul", "stated", "Lemma 4"),),
            kind=Bound(),
            cases=(
                Case("digits", lambda key, data: key),
                Case("small", lambda key, data: key, enumerable=True),
            ),
            outcomes=lambda instance: None,
            trial=lambda instance, outcome: {},
            mutants=("half", "twice"),
            hypotheses={"x is not zero": lambda instance: True},
        )
        | fields
    )


CATALOGUE = (claim("sketch/one"), claim("sketch/two"), claim("paths/false", expected="REFUTED", mutants=()))


def verdict_on(claim, *, tier="quick", seed=0, data=None, remembered=None, progress=None):
    """Refutes what is called false; the numbers show tier and seed."""
    false = claim.id.endswith("false")
    word, ratios = REFUTED if false else SUPPORTED, (1.0, 1.5, 1.75, 2.0, 2.25, 3.0, 4.0)
    case = CaseVerdict(word, 4096, 32, 32, 1.0 + seed, 2.0, 2.0, None, "rounding", looseness_quantiles=ratios)
    found = Replay("digits", 5, "search", component=0, measured=1.5, theory=1.25, values={"w": [1.0, 2.0]})
    return Verdict(
        id=claim.id,
        kind="bound",
        verdict=case.verdict,
        expected=claim.expected and Decision(claim.expected),
        tolerance=0.1,
        cases={case_.name: case for case_ in claim.cases},
        mutants=dict.fromkeys(claim.mutants, REFUTED),
        counterexample=found if false else None,
        elapsed_s=os.getpid() + id(case) % 1000 / 1000,
    )


def set_up(folder, monkeypatch):
    """Go into the folder, with the catalogue above and its stand-in for the verifier; return the folder."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr("theory.catalogue.CATALOGUE", CATALOGUE)
    stand_in(monkeypatch, verdict_on)
    return folder


def stand_in(monkeypatch, verify):
    monkeypatch.setitem(sys.modules, "theory.verification", SimpleNamespace(verify=verify))


def run(capsys, *words):
    """Exit status, what was printed, and what was said on the error stream."""
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return code, captured.out, captured.err


def verdicts(folder):
    return json.loads((folder / "report" / "verdicts.json").read_text())


def timeless(folder, report="report"):
    return re.sub(r'"elapsed_s": .*', "", (folder / report / "verdicts.json").read_text())
