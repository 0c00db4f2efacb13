"""Calling the library as its users do, without the import hook that checks types in the tests."""

import contextlib

import jaxtyping


@contextlib.contextmanager
def without_type_checks():
    """Turn off jaxtyping's checks, so that a wrong argument reaches the library's own error message."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
