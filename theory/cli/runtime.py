"""The settings of the process in which a command runs JAX.

**A deadlock.** XLA's CPU backend splits batched LAPACK and BLAS calls over its pool of threads, and the thread that
makes such a call waits for the others. When every thread of the pool waits, none is left to do the work, and the
process hangs without using the processor. This script shows it with jaxlib 0.10.2 on two cores, in most runs::

    import os
    os.environ["NPROC"] = "2"  # XLA reads the size of its pool from it
    import jax
    x = jax.random.normal(jax.random.key(0), (4, 256, 24, 24))
    solve = jax.jit(lambda x: [jax.scipy.linalg.solve_triangular(a, a) for a in x])
    for _ in range(200):
        jax.block_until_ready(solve(x))

With the compiler option ``xla_cpu_multi_thread_eigen=False`` a program makes one such call at a time. The programs of
the verifier are compiled with it (:class:`theory.engine.Program`), so at most as many threads wait as claims are
verified at once; :func:`configure` gives the pool that many threads more than there are cores.

**OpenBLAS.** The LAPACK that JAX calls is SciPy's OpenBLAS, which has threads of its own. They wait for work by
spinning: with claims on all cores they take several times the processor time of the work itself. So :func:`configure`
leaves each call in the thread that makes it.
"""

import os
import warnings
import zlib
from pathlib import Path

from sketchprune._cores import CORES

THREADS = min(CORES + 2, 8)
"""How many claims are verified at once.

The programs of a claim run in one thread each. Two claims more than cores, since tracing holds Python's lock and only
one claim can trace at a time. No more than eight, since a claim takes up to half a GiB of memory.
"""
_POOL_VARIABLE = "NPROC"
_NUM_CHECKED_ENTRIES = 32
"""A kill cuts short at most the entry that each thread is writing. Those are among the newest at the next start."""


def configure(*, x64: bool | None = None, device_per_core: bool = False):
    """Set JAX up for a command: threads of XLA and LAPACK, the persistent compilation cache, precision and devices.

    It has to be called before JAX starts its backend.

    Args:
        x64: whether arrays are in 64 bits unless a dtype is given; None leaves that as it is, for work that verifies:
            it turns x64 on around itself.
        device_per_core: whether a CPU becomes as many devices as it has cores, for work that is spread over devices.
            A number that the user has given to JAX goes first.

    Raises:
        ValueError: JAX finds no device that it can start on.
    """
    os.environ[_POOL_VARIABLE] = str(CORES + THREADS)
    import jax
    import scipy.linalg  # noqa: F401 - loads the OpenBLAS whose threads are limited below
    import threadpoolctl

    threadpoolctl.threadpool_limits(1, user_api="blas")

    if x64 is not None:
        jax.config.update("jax_enable_x64", x64)
    if device_per_core and not _num_devices_given():
        jax.config.update("jax_num_cpu_devices", CORES)
    _use_compilation_cache()
    try:
        jax.devices()
    except RuntimeError as error:
        raise ValueError(f"JAX starts on no device: {error}") from None


def versions() -> dict[str, str]:
    """The version of everything that the numbers depend on, by name."""
    import platform
    from importlib.metadata import version

    import jax

    from sketchprune import __version__

    own = {"sketchprune": __version__, "source": source_checksum(), "python": platform.python_version()}
    packages = {name: version(name) for name in ("jax", "jaxlib", "numpy", "scipy", "optax")}
    return own | packages | {"backend": jax.default_backend()}


def hardware() -> str:
    """The number and the name of the processors or accelerators that the numbers were measured on."""
    import platform

    import jax

    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{jax.device_count()} x {device.device_kind}"
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names) or 1} x {names[0] if names else platform.processor()}"


def source_checksum() -> str:
    """A checksum of the library and the claims as they are on disk.

    After a change to either, an earlier verdict may be about something else.
    """
    theory = Path(__file__).parents[1]
    packages = [theory, theory.parent / "sketchprune"]
    # How claims are dealt to shards is a JSON file, and what `show` cites is in a bibliography.
    ends = ("*.py", "*.json", "*.bib")
    files = sorted(file for package in packages for end in ends for file in package.rglob(end))
    return f"{zlib.crc32(b''.join(file.read_bytes() for file in files)):08x}"


def cache_folder() -> Path:
    """Where commands keep what saves time and can be made again: a folder of the user's, which may not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sketchprune"


def discard_cut_entries(cache: Path, *, newest: int = _NUM_CHECKED_ENTRIES):
    """Delete the entries of a compilation cache that a kill cut short, so that they are compiled and written again.

    JAX writes an entry in place, never replaces one, and warns of a damaged one each time that it reads it.

    Args:
        cache: the folder of the cache.
        newest: how many entries are looked at, the newest first.
    """
    entries = sorted(cache.glob("*-cache"), key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in entries[:newest]:
        if not _is_complete(entry.read_bytes()):
            entry.unlink(missing_ok=True)


def _use_compilation_cache():
    """Keep compiled programs on disk, in the user's cache folder unless JAX is told another; see configure."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue] - set at run time
        cache = cache_folder() / "xla"
        try:
            cache.mkdir(parents=True, exist_ok=True)
            discard_cut_entries(cache)
        except OSError:
            return  # commands work without a cache, more slowly
        jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)  # 0 would leave the limit to JAX
    # An entry that JAX cannot read or write costs a compilation and changes no result, so the user need not know.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry", UserWarning)


def _is_complete(entry: bytes) -> bool:
    """Whether an entry of the cache holds a whole zlib stream. Other formats count as complete: JAX reads them."""
    if entry and not entry.startswith(b"\x78"):  # the first byte of a zlib stream
        return True
    stream = zlib.decompressobj()
    try:
        stream.decompress(entry)
    except zlib.error:
        return False
    return stream.eof


def _num_devices_given() -> bool:
    """Whether the user has told JAX into how many devices it splits the CPU."""
    import jax

    in_config = jax.config.jax_num_cpu_devices >= 0  # pyright: ignore[reportAttributeAccessIssue] - set at run time
    return in_config or "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
