"""The check of laws: a right law passes, and each planted fault is found and named."""

import jax
import jax.numpy as jnp
import pytest
from flax import struct

from sketchprune import laws
from sketchprune.testing import check_law

KEY = jax.random.key(3)


class Coins(struct.PyTreeNode, eq=False):
    """A law of a stranger: independent coins, reweighted, of which one is never thrown."""

    rates: object

    def sample(self, key):
        thrown = jax.random.uniform(key, self.rates.shape) < self.rates
        return jnp.where(thrown, 1 / self.rates, 0.0)

    def inclusion(self):
        return self.rates

    def error(self, items):
        return jnp.sum(items.squares * jnp.where(self.rates > 0, 1 / self.rates - 1, 0))

    def outcomes(self):
        kept = laws.all_subsets(len(self.rates))
        chances = jnp.prod(jnp.where(kept, self.rates, 1 - self.rates), axis=1)
        return jnp.where(kept & (self.rates > 0), 1 / self.rates, 0.0), chances


class Biased(Coins):
    def sample(self, key):
        return Coins(self.rates.at[0].add(0.03)).sample(key) * (1 + 0.03 / self.rates * (jnp.arange(3) == 0))


class Dependent(Coins):
    """Every item as often as it should be, but two of them together."""

    def sample(self, key):
        return jnp.where(jax.random.uniform(key) < self.rates, 1 / self.rates, 0.0)


class WrongError(Coins):
    def error(self, items):
        return 1.001 * super().error(items)


class WrongInclusion(Coins):
    def inclusion(self):
        return self.rates.at[1].add(1e-6)


class ShapelessInclusion(Coins):
    def inclusion(self):
        return jnp.mean(self.rates)


class Unnormalised(Coins):
    def outcomes(self):
        masks, chances = super().outcomes()
        return masks, chances.at[3].multiply(1.1)


class Missing(Coins):
    """Outcomes that do not list what is drawn."""

    def outcomes(self):
        masks, chances = super().outcomes()
        return 1.01 * masks, chances


class NotUnbiased(Coins):
    def sample(self, key):
        return 0.9 * super().sample(key)

    def outcomes(self):
        masks, chances = super().outcomes()
        return 0.9 * masks, chances


class Untraceable(Coins):
    def sample(self, key):
        return super().sample(key) if float(self.rates[0]) > 0 else jnp.zeros(3)


class OtherDtype(Coins):
    def outcomes(self):
        masks, chances = super().outcomes()
        return masks.astype(jnp.float32), chances


class Impure(Coins):
    """Another mask each time."""

    def sample(self, key):
        COUNTER.append(None)
        return super().sample(jax.random.fold_in(key, len(COUNTER)))


class NaNSlope(Coins):
    """Zero at the right value, with a derivative that is not a number."""

    def error(self, items):
        return super().error(items) + 0 * jnp.sum(jnp.sqrt(self.rates * 0))


COUNTER = []
RATES = jnp.array([0.4, 0.7, 0.25])


class Plain:
    """Not a pytree."""

    def __init__(self, law):
        self.sample, self.inclusion, self.error, self.outcomes = law.sample, law.inclusion, law.error, law.outcomes


def test_a_right_law_passes():
    check_law(Coins(RATES), key=KEY, bad=[lambda: laws.Poisson(2 * RATES).sample(KEY)])


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (Biased, r"Biased: item 0 was drawn \d+ times of 20000, with the probability 0.4"),
        (Dependent, r"Dependent: outcome \d was drawn \d+ times"),
        (WrongError, r"WrongError.error\(items\) is .*; enumeration gives"),
        (WrongInclusion, r"WrongInclusion.inclusion\(\) is .*0.700001.*; enumeration gives"),
        (ShapelessInclusion, r"inclusion\(\) is not shaped like a mask: \[\(\)\] for \[\(3,\)\]"),
        (Unnormalised, r"outcomes\(\) has probabilities that sum to 1.0"),
        (Missing, "the mean of a reweighted mask"),
        (NotUnbiased, "the mean of a reweighted mask"),
        (OtherDtype, r"outcomes\(\) and its samples differ in dtype: .*float32.*float64"),
        (Impure, "sample eagerly and under vmap differ"),
        (NaNSlope, r"error\(items\) has the derivative"),
    ],
)
def test_faults_are_found(law, message):
    with pytest.raises(AssertionError, match=message):
        check_law(law(RATES), key=KEY)


def test_a_sampler_that_needs_numbers_is_found():
    with pytest.raises(jax.errors.ConcretizationTypeError):
        check_law(Untraceable(RATES), key=KEY)


def test_what_is_no_record_is_found():
    with pytest.raises(AssertionError, match="Plain is no pytree of numbers: .*; register it, or use flax.struct"):
        check_law(Plain(Coins(RATES)), key=KEY)


def test_bad_input_that_passes_is_found():
    with pytest.raises(AssertionError, match="Coins takes bad input number 1 without a ValueError"):
        bad = [lambda: laws.Poisson(2 * RATES).sample(KEY), lambda: Coins(2 * RATES).sample(KEY)]
        check_law(Coins(RATES), key=KEY, samples=100, bad=bad)


def test_items_of_ones_own():
    """An error that is right for some items only."""

    class Orthogonal(Coins):
        def error(self, items):
            return jnp.sum(jnp.diagonal(items.gram()) * (1 / self.rates - 1))

    items = laws.Items(jnp.ones(3), lambda c: jnp.sum(c**2), lambda: jnp.eye(3))
    check_law(Orthogonal(RATES), key=KEY, items=items, samples=100)
    wrong = items._replace(gram=lambda: 2 * jnp.eye(3))
    with pytest.raises(AssertionError, match="Orthogonal.error"):
        check_law(Orthogonal(RATES), key=KEY, items=wrong, samples=100)
