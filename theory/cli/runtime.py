"""JAX as the commands of this project use it."""

import os
import zlib
from pathlib import Path

CORES = os.cpu_count() or 1
THREADS = min(CORES + 2, 8)
"""Claims verified at once. A program runs in one thread; two claims more than cores, since only one can be traced at a
time; no more than eight, since a claim takes up to half a GiB."""


def configure(*, x64: bool = True, device_per_core: bool = False):
    """Turn the persistent compilation cache on, x64 unless told otherwise, and give XLA threads to spare.

    ``device_per_core``: a CPU becomes as many devices as it has cores, unless JAX is told a number already; for work
    that goes over devices. To be called before JAX starts its backend (see :class:`theory.engine.Program` for the
    threads). ValueError when JAX starts on no device.
    """
    os.environ["NPROC"] = str(CORES + THREADS)  # what XLA reads the size of its pool from
    import jax

    jax.config.update("jax_enable_x64", x64)
    told = jax.config.jax_num_cpu_devices >= 0  # pyright: ignore[reportAttributeAccessIssue]
    if device_per_core and not told and "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", CORES)
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sketchprune" / "xla"
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError:
            pass  # works without one, slower
        else:
            jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)  # 0 would leave the limit to JAX
    try:
        jax.devices()
    except RuntimeError as error:
        raise ValueError(f"JAX starts on no device: {error}") from None


def source() -> str:
    """A checksum of the library and the claims, as they are on disk: after a change, a verdict is on something else."""
    packages = [Path(__file__).parents[1], Path(__file__).parents[2] / "sketchprune"]
    files = sorted(file for package in packages for file in package.rglob("*.py"))
    return f"{zlib.crc32(b''.join(file.read_bytes() for file in files)):08x}"


def versions() -> dict[str, str]:
    """Of everything that numbers depend on."""
    import platform
    from importlib.metadata import version

    import jax

    from sketchprune import __version__

    numerics = {name: version(name) for name in ("jax", "jaxlib", "numpy", "scipy", "optax")}
    own = {"sketchprune": __version__, "source": source(), "python": platform.python_version()}
    return own | numerics | {"backend": jax.default_backend()}
