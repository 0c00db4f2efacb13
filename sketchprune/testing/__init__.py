"""Contract checks that anyone can run on a law or a score of their own."""
