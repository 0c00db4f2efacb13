"""Settings under which every test runs, doctests included. JAX and SciPy read them once, so they come first."""

import atexit
import gc
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

# Some tests start processes, each of which imports JAX. Where Python is told to keep no bytecode, every one of them
# would compile JAX's source anew, which takes as long as importing it: share the bytecode of one run of the tests.
if sys.dont_write_bytecode:
    bytecode = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, bytecode, ignore_errors=True)
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": bytecode}
    sys.dont_write_bytecode, sys.pycache_prefix = False, bytecode

# LAPACK comes with SciPy's OpenBLAS. Its threads wait for work by spinning, which slows down tests that share cores.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
# The size of XLA's pool of threads. With threads to spare, batched LAPACK calls cannot block each other: see
# theory/cli/runtime.py.
os.environ["NPROC"] = "32"
os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",  # for what is spread over devices
        "--xla_cpu_multi_thread_eigen=false",  # a program runs in one thread, as a claim's programs do
        # Compile in a third of the time. Compilation is most of what the tests do, and no slower code matters here.
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",
    )
)

# Traced programs are many small objects, and few of them are garbage: look through them more rarely.
gc.set_threshold(50_000, 20, 20)

# A script that starts the tests in the background has them ignore Ctrl-C, which some tests send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jax  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

# Tests compare with NumPy in float64. The library takes the dtype of its inputs and sets no precision itself.
jax.config.update("jax_enable_x64", True)

# Calls with a wrong shape, dtype or type fail: annotations are checked in every test.
install_import_hook(["sketchprune", "theory"], "beartype.beartype")

MAX_MEMORY_MAPS = 30_000
"""Half of what Linux allows a process: each compiled program takes several, and one too many ends the process."""


@pytest.fixture(autouse=True, scope="module")
def few_memory_maps():
    """After a module, compiled programs are dropped if they have come to take too many memory maps."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_text().count("\n") > MAX_MEMORY_MAPS:
        jax.clear_caches()
