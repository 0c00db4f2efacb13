"""Decisions, and verdicts as JSON and back."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from sketchprune._files import strict_json
from theory.verdict import (
    INCONCLUSIVE,
    REFUTED,
    SUPPORTED,
    TIERS,
    UNMET,
    VACUOUS,
    CaseVerdict,
    Certificate,
    Decision,
    Replay,
    Tier,
    Verdict,
    combine,
)

CASE = CaseVerdict(SUPPORTED, 4096, 32, 31, 0.5, 0.75, 1.5, (0.4, 0.6), "exact binomial")
REPLAY = Replay("digits", 3, "search", 0, 3.0, 1.5, {"w": [[1.0, 2.0]], "s": 3})
VERDICT = Verdict(
    "toy/one", "bound", SUPPORTED, SUPPORTED, 0.1, {"digits": CASE}, {"half": REFUTED}, None, elapsed_s=2.5
)


def test_worst_news_first():
    words = [UNMET, VACUOUS, SUPPORTED, INCONCLUSIVE, REFUTED]
    for worst, word in enumerate(words):
        assert combine(words[: worst + 1]) == combine(words[worst::-1]) == word
    assert combine([UNMET, UNMET]) == combine([]) == UNMET


def test_decisions_are_their_words():
    assert json.dumps(SUPPORTED) == '"SUPPORTED"' and f"{REFUTED:<8}|" == "REFUTED |"
    assert list(Decision) == ["SUPPORTED", "REFUTED", "VACUOUS", "UNMET", "INCONCLUSIVE"]
    assert combine(np.array(["SUPPORTED", "REFUTED"])) is REFUTED


@pytest.mark.parametrize("change", [{"verdict": "TRUE"}, {"expected": "FALSE"}, {"mutants": {"half": "refuted"}}])
def test_other_words_are_refused(change):
    with pytest.raises(ValueError, match="is not a valid Decision"):
        Verdict.from_json(asdict(VERDICT) | change)


@pytest.mark.parametrize("counterexample", [None, REPLAY, replace(REPLAY, measured=math.nan)])
def test_verdicts_survive_json(counterexample):
    verdict = replace(VERDICT, counterexample=counterexample, expected=None)
    fields = json.loads(json.dumps(strict_json(asdict(verdict)), allow_nan=False))
    again = Verdict.from_json(fields)
    assert strict_json(asdict(again)) == fields and str(again) == str(verdict)
    words = (again.verdict, again.mutants["half"], again.cases["digits"].verdict)
    assert all(isinstance(word, Decision) for word in words)
    assert isinstance(again.cases["digits"], CaseVerdict) and again.cases["digits"].interval == (0.4, 0.6)
    if counterexample is not None:
        assert list(fields["counterexample"]) == [
            "case", "instance", "found_by", "component", "measured", "theory", "values", "key", "smaller",
            "certificate", "program", "drawn",
        ]  # fmt: skip


def test_what_a_verdict_sums_up():
    cases = {str(i): replace(CASE, looseness=looseness) for i, looseness in enumerate((3.0, math.nan, 1.0))}
    verdict = replace(VERDICT, cases=cases)
    assert verdict.trials == 3 * 4096 and verdict.looseness == 3
    assert math.isnan(replace(VERDICT, cases={"one": replace(CASE, looseness=math.nan)}).looseness)
    assert VERDICT.as_expected and not VERDICT.undecided
    assert not replace(VERDICT, mutants={"half": SUPPORTED}).as_expected
    assert replace(VERDICT, mutants={"half": INCONCLUSIVE}).undecided
    assert replace(VERDICT, elapsed_s=1.0) == VERDICT


def test_ratios_of_replays():
    assert REPLAY.ratio == 2 and math.isnan(replace(REPLAY, theory=0.0).ratio)


@pytest.mark.parametrize("tier", TIERS.values(), ids=TIERS)
def test_tiers_look_at_powers_of_two(tier: Tier):
    """Tiles are powers of two, so they fill every look."""
    assert list(tier.looks) == sorted(set(tier.looks))
    assert all(look & (look - 1) == 0 for look in tier.looks)


def test_no_look_comes_before_the_least_number_of_trials():
    tier = replace(TIERS["standard"], looks=(128, 256, 1024), min_trials=100_000)
    assert tier.with_min_trials(1024).looks == (128, 256, 1024)
    assert tier.with_min_trials(3 * 128).looks == (261, 1024)
    assert tier.with_min_trials(50).looks == (2000,)
    assert replace(tier, min_trials=0).with_min_trials(1).looks == tier.looks


def test_verdicts_are_equal_where_all_numbers_are_or_are_none():
    again = replace(CASE, looseness=float("nan"), resolution=float("nan"), interval=(0.4, float("nan")))
    same = replace(again, looseness=-float("nan"), contrast=float("nan"), interval=(0.4, -float("nan")))
    assert again == same and again != replace(same, interval=(0.4, 0.6)) and again != replace(same, looseness=1.0)
    one, other = (replace(VERDICT, cases={"digits": case}, elapsed_s=case.measured) for case in (again, same))
    assert one == other == replace(other, elapsed_s=9.0) and one != replace(other, cases={}) and one != CASE
    assert Verdict.from_json(strict_json(asdict(one))) == one
    assert Certificate(False, reason="erf") == Certificate(False, math.nan * 2, reason="erf") != Certificate(False)
