"""Instances and keys: nothing depends on what else is verified, on tiers or on batches."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.support.claims import DATA, FALSE, KINDS, LONGER, SAMPLE, VECTOR, programs, verdict
from theory.instances import make_groups
from theory.verdict import SUPPORTED


def test_a_case_more_changes_no_other():
    for claim in (FALSE["identity"], FALSE["effect"]):
        alone = verdict(claim).cases["vector"]
        same_shape = verdict(replace(claim, cases=(SAMPLE, VECTOR))).cases
        another = verdict(replace(claim, cases=(VECTOR, LONGER))).cases
        assert list(same_shape) == ["toys", "vector"]
        assert same_shape["vector"] == another["vector"] == alone


def test_an_id_of_its_own_gives_keys_of_its_own():
    """The same statement under another id sees other instances: claims are independent of one another."""
    other = verdict(replace(FALSE["effect"], id="toy/other"))
    assert other.cases["vector"].measured != verdict(FALSE["effect"]).cases["vector"].measured


def made(claim, count, seed=0):
    (group,), _ = make_groups(claim, count, seed, DATA, programs(claim).prepare_and_check)
    return group


def test_an_instance_is_the_same_at_every_tier():
    few, many = (made(KINDS["equal"], count) for count in (2, 5))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[:2]), few.raw, many.raw)
    np.testing.assert_array_equal(few.keys, many.keys[:2])
    assert len(np.unique(many.keys, axis=0)) == 5
    assert not np.array_equal(made(KINDS["equal"], 2, seed=1).raw.x, few.raw.x)


def test_instances_that_do_not_fit_a_batch_are_mapped():
    assert verdict(replace(FALSE["identity"], batch=2)) == verdict(FALSE["identity"])
    small = verdict(replace(KINDS["equal"], batch=2))
    assert small.verdict == SUPPORTED and small.trials == verdict(KINDS["equal"]).trials
    assert small.cases["vector"].interval == pytest.approx(verdict(KINDS["equal"]).cases["vector"].interval)
