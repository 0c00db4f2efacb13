"""neural-tangents is imported on current JAX, or one error says why not; nothing of JAX stays changed."""

import importlib.metadata
import subprocess
import sys

import numpy as np
import pytest

from sketchprune.kernels import infinite
from sketchprune.kernels.infinite import networks

X = np.ones((2, 3))


@pytest.fixture
def without_neural_tangents(monkeypatch):
    """As before the first import; what was imported comes back afterwards."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "neural_tangents"]:
        monkeypatch.delitem(sys.modules, name)
    infinite.neural_tangents.cache_clear()
    networks._kernel_fn.cache_clear()
    yield
    infinite.neural_tangents.cache_clear()
    networks._kernel_fn.cache_clear()


def test_without_the_extra_one_error_says_what_to_install(without_neural_tangents, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    for use in (infinite.neural_tangents, lambda: infinite.mlp(2), lambda: infinite.ntk([1, 1], X)):
        with pytest.raises(ImportError, match=r"uv add 'sketchprune\[infinite\]'"):
            use()


def test_an_unknown_version_that_fails_is_named(without_neural_tangents, monkeypatch, tmp_path):
    package = tmp_path / "neural_tangents"
    package.mkdir()
    (package / "__init__.py").write_text("from . import part\nfrom jax.core import moved_since\n")
    (package / "part.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.9.0")
    before = dict(vars(sys.modules["jax.core"]))
    with pytest.raises(ImportError, match=r"neural-tangents 0\.9\.0 .* written for neural-tangents 0\.6\.5"):
        infinite.neural_tangents()
    assert vars(sys.modules["jax.core"]) == before
    assert not any(name.startswith("neural_tangents") for name in sys.modules)


def test_the_import_leaves_jax_as_it_was():
    """In a process of its own, since this one has imported neural-tangents already."""
    program = """
import sys, warnings
warnings.simplefilter("error")
import jax.interpreters.ad
from sketchprune.kernels import infinite
assert "neural_tangents" not in sys.modules
modules, filters = set(sys.modules), list(warnings.filters)
spaces = [vars(jax.core), vars(jax.interpreters.ad), vars(jax)]
before = [dict(space) for space in spaces]
infinite.neural_tangents()
new = {name: sys.modules[name] for name in set(sys.modules) - modules}
for space, old in zip(spaces, before):
    assert all(space[name] is value for name, value in old.items())
    assert all(f"{space['__name__']}.{name}" in new for name in set(space) - set(old))
assert not [name for name, module in new.items() if module.__spec__ is None], "placeholders"
assert not [name for name in new if name.startswith(("tensorflow", "neural_tangents.experimental"))]
assert warnings.filters == filters
"""
    subprocess.run([sys.executable, "-c", program], check=True)
