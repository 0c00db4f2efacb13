"""Counterexamples made smaller, certified in ball arithmetic, and written as files that need NumPy alone."""
