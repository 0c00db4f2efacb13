"""``sketchprune devices``: what JAX runs on."""

import os
from typing import Any

from theory.cli import runtime
from theory.cli.exit_status import ExitStatus


def devices() -> int:
    """Show the devices that JAX finds, the host, and versions."""
    runtime.configure()
    import jax

    for device in jax.devices():
        print(_device(device))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    print(f"host: {runtime.CORES} cores, {_gibibytes(memory)}")
    for name, version in runtime.versions().items():
        print(f"{name} {version}")
    return ExitStatus.OK


def _device(device: Any) -> str:
    """Number, platform, kind and memory of a device."""
    names = dict.fromkeys((device.platform, device.device_kind))  # a CPU has one name for both
    line = f"{device.id}: {' '.join(names)}"
    memory = device.memory_stats() or {}
    return f"{line}, {_gibibytes(memory['bytes_limit'])}" if "bytes_limit" in memory else line


def _gibibytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
