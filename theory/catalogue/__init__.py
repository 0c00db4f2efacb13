"""Every claim that ships with sketchprune, in the order in which the report shows them."""

from theory.claim import Claim

CATALOGUE: tuple[Claim, ...] = ()
