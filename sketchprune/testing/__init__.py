"""Contract checks that anyone can run on objects of their own."""

from sketchprune.testing.laws import check_law as check_law
