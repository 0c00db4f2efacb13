"""Every test runs with x64 on (the library takes the dtype of its inputs) and on 8 virtual CPU devices."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax  # noqa: E402 - the flag above is read when JAX starts

jax.config.update("jax_enable_x64", True)
