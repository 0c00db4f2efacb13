"""Every test, doctests included, runs with x64 on (the library takes the dtype of its inputs), on 8 virtual CPU
devices, and with LAPACK on one thread (its threads spin, which costs most where tests share few cores). Programs run
in one thread each, in a pool with threads to spare: LAPACK's calls cannot wait for each other for ever (see
theory.engine.Program), and compile as a claim's do, in half the time: compilation is most of what the tests do."""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["NPROC"] = "32"
os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_cpu_multi_thread_eigen=false",
        "--xla_backend_optimization_level=1",
        "--xla_cpu_use_fusion_emitters=false",
    )
)

import jax  # noqa: E402 - scipy, which holds JAX's LAPACK, and JAX read the settings above when they load

jax.config.update("jax_enable_x64", True)

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook(["sketchprune", "theory"], "beartype.beartype")
