"""Searches over processes and after a kill are the search of one process; what goes wrong is said."""

import functools
import json
import os
import re
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

from sketchprune import search
from sketchprune.search import _cluster, mesh
from sketchprune.search._traced import Traced
from tests.support import search_process as example

SCRIPT = Path(__file__).parents[1] / "support" / "search_process.py"


@functools.cache
def alone():
    return example.plain(example.run(None, mesh=mesh.over(jax.devices()[:1])))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(*arguments, devices, **variables):
    """A Python process with so many devices; arguments as `python` takes them."""
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_ENABLE_X64": "1",
        "PYTHONPATH": str(SCRIPT.parents[2]),
    }
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def slurm(number, port, *, node="localhost"):
    """What srun tells the first or second of two processes on one node; its own choice of a port may be taken."""
    return {
        "SLURM_JOB_ID": "4711", "SLURM_STEP_NODELIST": node, "SLURM_STEP_NUM_NODES": "1", "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(number), "SLURM_LOCALID": str(number), "JAX_COORDINATOR_PORT": str(port),
    }  # fmt: skip


def test_two_processes_of_four_devices_find_the_same(tmp_path):
    coordinator = f"127.0.0.1:{free_port()}"
    processes = [launch(SCRIPT, tmp_path, coordinator, 2, number, devices=4) for number in (0, 1)]
    outputs = [process.communicate(timeout=300) for process in processes]
    for process, (out, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
        told, found = json.loads(out.splitlines()[-1])
        assert found == alone()
        for message, text in zip(
            (
                r"different things \(key: \[0, 7\] in process 0, \[0, 8\] in process 1\); each takes the same",
                r"\(data: \w+ in process 0, \w+ in process 1\)",
                r"\(num_masks: 10000 in process 0, 10001 in process 1; batch: 2048 in process 0, 4096 in process 1\)",
                r"\(with checkpoint: True in process 0, False in process 1\)",
                "mesh has no device of process 1 of 2; it takes devices of every process",
            ),
            told,
            strict=True,
        ):
            assert re.search(message, text)
    # What two processes left is what one goes on from: here, nothing more to do.
    looks = []
    assert example.plain(example.run(tmp_path, progress=looks.append)) == alone() and not looks


def test_the_command_joins_what_slurm_has_started(tmp_path):
    """Two processes of one device find what one process of one device finds."""
    command = ("-m", "theory", "search", "--data", "digits", "--masks", "5000", "--best", "3", "--out")
    port = free_port()
    joined = [
        launch(*command, tmp_path / "two", "--cluster", "--join-timeout", 240, devices=1, **slurm(number, port))
        for number in (0, 1)
    ]
    found = []
    for folder, processes in (("two", joined), ("one", [launch(*command, tmp_path / "one", devices=1)])):
        outputs = [process.communicate(timeout=300) for process in processes]
        for process, (_, errors) in zip(processes, outputs, strict=True):
            assert process.returncode == 0, errors
        assert f"{len(processes)} process" in outputs[0][0]
        assert not any("masks" in out for out, _ in outputs[1:])  # only the first one speaks
        report = json.loads((tmp_path / folder / "result.json").read_text())
        found.append({name: value for name, value in report.items() if name not in ("rate", "seconds")})
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, None),
        ({"SLURM_STEP_NODELIST": "node07"}, ("node07:62055", 2, 1)),
        ({"SLURM_STEP_NODELIST": "node07,other"}, ("node07:62055", 2, 1)),
        ({"SLURM_STEP_NODELIST": "node[007-015],other"}, ("node007:62055", 2, 1)),
        ({"SLURM_STEP_NODELIST": "rack-1-[12,14-15].site"}, ("rack-1-12.site:62055", 2, 1)),
        ({"SLURM_STEP_NODELIST": "node[3]", "JAX_COORDINATOR_PORT": "9876"}, ("node3:9876", 2, 1)),
        ({"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911"}, ("10.96.0.1:62624", 3, 2)),
        ({"OMPI_MCA_orte_hnp_uri": "1314521088.0;tcp6://[fe80::b9b,2620::2]:43370"}, ("[fe80::b9b]:62880", 3, 2)),
        ({"OMPI_MCA_orte_hnp_uri": "1314521088.0;tcp6://[fe80::b9b]:43370"}, ("[fe80::b9b]:62880", 3, 2)),
    ],
)
def test_what_launchers_say(environment, place):
    if "SLURM_STEP_NODELIST" in environment:
        whole = {name: value for name, value in slurm(1, 0).items() if name != "JAX_COORDINATOR_PORT"} | environment
        for missing in ("SLURM_JOB_ID", "SLURM_LOCALID"):  # as in a batch script outside srun
            assert _cluster.place({name: value for name, value in whole.items() if name != missing}) is None
    else:
        whole = {"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "2"} | environment
    assert _cluster.place(whole) == place


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"SLURM_NTASKS": "two"}, "SLURM_NTASKS is 'two'; it takes a whole number"),
        ({"SLURM_JOB_ID": "4_1"}, "SLURM_JOB_ID is '4_1'; it takes a whole number"),
        ({"SLURM_STEP_NODELIST": ""}, "SLURM_STEP_NODELIST is ''; it takes names of nodes"),
        ({"JAX_COORDINATOR_PORT": "x"}, "JAX_COORDINATOR_PORT is 'x'; it takes a whole number"),
        ({"SLURM_PROCID": "2"}, "process_id is 2 of num_processes 2; it takes 0 to num_processes - 1"),
    ],
)
def test_launchers_that_say_nonsense(monkeypatch, change, message):
    for name, value in (slurm(1, 9) | change).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        mesh.start(timeout=0.2)
    with pytest.raises(
        ValueError, match="OMPI_MCA_orte_hnp_uri is 'nowhere'; it takes a job's number and a tcp address"
    ):
        _cluster.place({name: "nowhere" for name in _cluster._OPEN_MPI})


@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_slurm_did_not_start_is_named(monkeypatch, number):
    """The interpreter lives on: JAX's own start, which aborts it, is not reached."""
    port = free_port()
    for name, value in slurm(number, port, node="127.0.0.1").items():
        monkeypatch.setenv(name, value)
    missing = ("process 1 of 2 did not join", "process 0 of 2 did not answer at")[number]
    with pytest.raises(TimeoutError, match=f"{missing} 127.0.0.1:{port} within 0.3 s"):
        mesh.start(timeout=0.3)


def test_no_launcher():
    with pytest.raises(ValueError, match="cannot be joined: .* it takes the environment of Slurm, Open MPI or a TPU"):
        mesh.start(timeout=0.2)


def test_a_killed_search_goes_on(tmp_path):
    process = launch(SCRIPT, tmp_path, devices=1)
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


def test_an_interrupted_search_goes_on(tmp_path):
    """What a real signal interrupts is kept, though no checkpoint was due."""
    process = launch("-u", SCRIPT, tmp_path, "--patient", devices=1)
    assert process.stdout.readline() == "looked\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    (kept,) = saved(tmp_path)
    assert 0 < kept < example.MASKS
    looks = []
    assert example.plain(example.run(tmp_path, progress=looks.append)) == alone()
    assert looks[0].done > kept


def test_an_interrupt_before_the_first_look_keeps_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sketchprune.search._program.Worker.share", interrupted)
    with pytest.raises(KeyboardInterrupt):
        example.run(tmp_path, mesh=mesh.over(jax.devices()[:1]))
    assert saved(tmp_path) == []


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
    np.testing.assert_array_equal(keyed.program(keyed.constants, jnp.ones(3)), jax.random.normal(key) * jnp.ones(3))


def test_checkpoints_know_nothing_of_callbacks(tmp_path):
    """Two objectives that differ in what Python does alone; printing changes no value."""

    @jax.jit
    def objective(mask):
        return jax.pure_callback(np.float32, jax.ShapeDtypeStruct((), jnp.float32), mask, vmap_method="sequential")

    law = functools.partial(jax.random.normal, shape=(), dtype=jnp.float32)
    one = {"best": 2, "mesh": mesh.over(jax.devices()[:1])}
    with pytest.raises(ValueError, match=f"checkpoint is {tmp_path} and objective calls back to Python"):
        search.best(objective, law, jax.random.key(0), 256, checkpoint=tmp_path, **one)
    assert search.best(objective, law, jax.random.key(0), 256, **one).num_masks == 256
    printing = Traced(lambda x: jax.debug.callback(print, x) or x, jnp.zeros(3))
    assert not printing.calls_back and Traced(lambda x: jax.lax.map(objective, x), jnp.zeros(3)).calls_back


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
    assert mesh.agreed(5) == 5 and mesh.agreed_text("ü") == "ü" and mesh.texts("ü") == ["ü"]
    value = mesh.replicated(mesh.over(), jnp.arange(3))
    assert len(value.sharding.device_set) == 8 and value.is_fully_replicated
