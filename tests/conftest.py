"""What several test files share."""

import jax
import pytest

SETTINGS = (
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(scope="module")
def jax_settings(tmp_path_factory):
    """For modules that run a command: a compilation cache of their own, turned off, and JAX's settings put back."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        jax.config.update("jax_enable_compilation_cache", False)
        yield
    for name, value in before.items():
        jax.config.update(name, value)
