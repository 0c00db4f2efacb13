"""Contract checks that anyone can run on objects of their own."""

from sketchprune.testing.laws import check_law as check_law
from sketchprune.testing.scores import check_score as check_score
