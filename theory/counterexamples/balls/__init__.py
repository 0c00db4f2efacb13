"""Ball arithmetic for traced JAX programs: every number carries a rigorous bound on its error (python-flint)."""
