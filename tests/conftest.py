"""Fixtures that several test files share: small bias-free networks with masks, and JAX's settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.path_networks import SMALL_NETWORKS

JAX_SETTINGS = (
    "jax_enable_x64",
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(scope="module")
def jax_settings(tmp_path_factory):
    """For modules that run a command: a compilation cache of their own, turned off, and JAX's settings put back."""
    before = {name: getattr(jax.config, name) for name in JAX_SETTINGS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        jax.config.update("jax_enable_compilation_cache", False)
        yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(params=SMALL_NETWORKS)
def small(request):
    """One small network after another."""
    network = SMALL_NETWORKS[request.param]
    return network._replace(params=tuple(jnp.asarray(w) for w in network.params))


@pytest.fixture(params=["dense", "pruned"])
def mask(request, small):
    """No mask; or one that selects in the first layer and is a sketch of the others."""
    rng = np.random.default_rng(20)
    first, *others = [rng.random(w.shape) < 0.6 for w in small.params]
    return None if request.param == "dense" else (first, *(kept * rng.uniform(0.5, 2, kept.shape) for kept in others))
