"""Contract checks that anyone can run on objects of their own."""

from sketchprune._names import own_names
from sketchprune.testing.laws import check_law as check_law
from sketchprune.testing.scores import check_score as check_score

__dir__ = own_names(__name__)
