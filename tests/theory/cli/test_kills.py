"""A run that is killed and resumed comes to the same verdicts as one that is not."""

from tests.support.kills import finished, killed

CLAIMS = ("sketch/data-free-minimax", "lottery/concentration")


def test_a_killed_run_comes_to_the_same_verdicts(tmp_path):
    whole = finished(tmp_path / "whole", claims=CLAIMS)
    found, kept = killed(tmp_path / "killed", 2, claims=CLAIMS, longest_s=5.0)
    assert found == whole and len(found) == len(CLAIMS)
    assert kept == sorted(kept) and kept[-1] > 0
