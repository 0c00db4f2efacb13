"""Searches over processes and after a kill are the search of one process; what goes wrong is said."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketchprune import mesh
from tests.examples import search_process as example

SCRIPT = Path(__file__).parent / "examples" / "search_process.py"


@functools.cache
def alone():
    return example.plain(example.run(None, mesh=mesh.over(jax.devices()[:1])))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(folder, *others, devices):
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_ENABLE_X64": "1",
        "PYTHONPATH": str(SCRIPT.parents[2]),
    }
    command = [sys.executable, str(SCRIPT), str(folder), *map(str, others)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_of_four_devices_find_the_same(tmp_path):
    coordinator = f"127.0.0.1:{free_port()}"
    processes = [launch(tmp_path, coordinator, 2, number, devices=4) for number in (0, 1)]
    outputs = [process.communicate(timeout=300) for process in processes]
    for process, (out, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
        assert json.loads(out.splitlines()[-1]) == alone()
    # What two processes left is what one goes on from: here, nothing more to do.
    looks = []
    assert example.plain(example.run(tmp_path, progress=looks.append)) == alone() and not looks


def test_a_killed_search_goes_on(tmp_path):
    process = launch(tmp_path, devices=1)
    deadline = time.monotonic() + 240
    while not (kept := saved(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert kept and max(saved(tmp_path)) < example.MASKS
    looks = []
    assert example.plain(example.run(tmp_path, progress=looks.append)) == alone()
    assert looks[0].done > kept[-1]
    assert looks[-1].done == example.MASKS and looks[-1].seconds_left == 0


def saved(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.exists() else []


def test_checkpoints_of_other_searches_are_refused(tmp_path):
    small = {"num_masks": 512, "batch": 256, "mesh": mesh.over(jax.devices()[:1])}
    example.run(tmp_path, **small)
    for change, message in (
        ({"seed": 8}, r"is of another search \(key: \[0, 7\] there, \[0, 8\] here\)"),
        ({"num_masks": 768}, r"\(num_masks: 512 there, 768 here\)"),
        ({"best": 3}, r"\(best: 5 there, 3 here\)"),
        ({"scale": 2.0}, r"\(data: \w+ there, \w+ here\)"),
    ):
        with pytest.raises(ValueError, match=message):
            example.run(tmp_path, **small | change)
    newest = tmp_path / str(max(saved(tmp_path)))
    for path in newest.rglob("*"):
        if path.is_file():
            path.write_bytes(b"\x00{")
    with pytest.raises(ValueError, match=f"checkpoint {newest} cannot be read .*; it takes one that a search wrote"):
        example.run(tmp_path, **small)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ValueError, match=f"checkpoint is {file}: .*; it takes a folder that can be written"):
        example.run(file, **small)


def test_laws_and_objectives_are_told_apart():
    from sketchprune._traced import Traced

    shift = jnp.arange(3.0)

    @jax.jit
    def inner(x):
        return x + shift

    def same(x):
        return x + jnp.arange(3.0)

    base, other = Traced(inner, jnp.zeros(3)), 2 * shift
    assert base.data == Traced(lambda x: x * shift, jnp.zeros(3)).data != Traced(lambda x: x + other, jnp.zeros(3)).data
    assert base.instructions != Traced(jax.jit(lambda x: x * shift), jnp.zeros(3)).instructions
    relu = [Traced(lambda x: jax.nn.relu(x), jnp.zeros(3)).instructions for _ in range(2)]
    assert relu[0] == relu[1] != Traced(same, jnp.zeros(3)).instructions
    key = jax.random.key(1)
    keyed = Traced(lambda x: x * jax.random.normal(key), jnp.zeros(3))
    assert keyed.data != base.data
    np.testing.assert_array_equal(keyed(keyed.constants, jnp.ones(3)), jax.random.normal(key) * jnp.ones(3))


def meeting(*processes, count, timeout=10.0):
    """Process ids that meet in threads: what each raises, or None."""
    coordinator = f"127.0.0.1:{free_port()}"

    def come(process_id):
        try:
            mesh.rendezvous(coordinator, count, process_id, timeout=timeout)
        except (ValueError, TimeoutError) as error:
            return error

    with ThreadPoolExecutor(len(processes)) as pool:
        return list(pool.map(come, processes)), coordinator


def test_processes_meet():
    errors, coordinator = meeting(0, 1, 2, count=3)
    assert errors == [None] * 3
    host, port = coordinator.split(":")
    with socket.create_server((host, int(port))):  # the port is free again
        pass


def test_a_process_that_never_joins_is_named():
    errors, coordinator = meeting(0, 2, count=4, timeout=0.5)
    for error in errors:
        assert isinstance(error, TimeoutError)
        assert str(error) == f"process 1, 3 of 4 did not join {coordinator} within 0.5 s"
    (error,), coordinator = meeting(1, count=2, timeout=0.3)
    assert str(error) == f"process 0 of 2 did not answer at {coordinator} within 0.3 s"


def test_processes_that_disagree_are_told():
    errors, _ = meeting(0, 1, 1, count=3)
    assert all("it takes each of 1 to 2 once" in str(error) for error in errors if error) and any(errors)
    coordinator = f"127.0.0.1:{free_port()}"
    stranger = threading.Thread(target=strange, args=(coordinator,))
    stranger.start()
    with pytest.raises(TimeoutError, match="process 1 of 2 did not join"):
        mesh.rendezvous(coordinator, 2, 0, timeout=1.0)
    stranger.join()


def strange(coordinator):
    """Someone who speaks another protocol."""
    host, port = coordinator.split(":")
    for _ in range(100):
        try:
            with socket.create_connection((host, int(port)), timeout=1) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return
        except OSError:
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("127.0.0.1:1", 2, None), "it takes all of them, or none"),
        (("127.0.0.1:1", 2, 2), "process_id is 2 of num_processes 2; it takes 0 to num_processes - 1"),
        (("localhost", 2, 1), "coordinator is 'localhost'; it takes host:port"),
        (("192.0.2.1:9", 2, 0), "process 0 cannot listen"),
    ],
)
def test_bad_starts(arguments, message):
    with pytest.raises(ValueError, match=message):
        mesh.start(*arguments, timeout=0.2)


def test_agreement_of_one_process():
    assert mesh.agreed(5) == 5 and mesh.agreed_text("ü") == "ü"
    value = mesh.replicated(mesh.over(), jnp.arange(3))
    assert len(value.sharding.device_set) == 8 and value.is_fully_replicated
