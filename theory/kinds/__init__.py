"""The kinds of claims: one file each, with all that follows from saying so."""

from theory.kinds.bound import Bound as Bound
from theory.kinds.effect import Effect as Effect
from theory.kinds.expectation import Expectation as Expectation
from theory.kinds.identity import Identity as Identity
from theory.kinds.kind import Findings as Findings
from theory.kinds.kind import Kind as Kind
from theory.kinds.kind import Words as Words
from theory.kinds.probability import Probability as Probability
from theory.kinds.rate import Rate as Rate

KINDS: tuple[type[Kind], ...] = (Identity, Bound, Expectation, Probability, Rate, Effect)
"""The kinds that ship, in the order in which the report explains them."""
