"""Searches over several processes are the search of one; what goes wrong when they meet is said."""

import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import pytest

from sketchprune.search import _cluster, mesh
from sketchprune.search._lifeline import Lifeline
from sketchprune.search._rendezvous import rendezvous
from tests.support import search_process as example


def test_two_processes_of_four_devices_find_the_same(tmp_path):
    coordinator = f"127.0.0.1:{example.free_port()}"
    processes = [example.launch(example.SCRIPT, tmp_path, coordinator, 2, number, devices=4) for number in (0, 1)]
    outputs = [process.communicate(timeout=300) for process in processes]
    for process, (out, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
        told, found = json.loads(out.splitlines()[-1])
        assert found == example.alone()
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
    # What two processes left is what one goes on from: here to the last masks, which fill no tile and are not kept.
    batches = []
    assert example.plain(example.run(tmp_path, progress=batches.append)) == example.alone() and len(batches) == 1


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
        whole = {
            name: value for name, value in example.slurm(1, 0).items() if name != "JAX_COORDINATOR_PORT"
        } | environment
        for missing in ("SLURM_JOB_ID", "SLURM_LOCALID"):  # as in a batch script outside srun
            assert _cluster.launched_process({name: value for name, value in whole.items() if name != missing}) is None
    else:
        whole = {"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "2"} | environment
    assert _cluster.launched_process(whole) == place


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
    for name, value in (example.slurm(1, 9) | change).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        mesh.start(timeout=0.2)
    with pytest.raises(
        ValueError, match="OMPI_MCA_orte_hnp_uri is 'nowhere'; it takes a job's number and a tcp address"
    ):
        _cluster.launched_process({name: "nowhere" for name in _cluster._OPEN_MPI})


@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_slurm_did_not_start_is_named(monkeypatch, number):
    """The interpreter lives on: JAX's own start, which aborts it, is not reached."""
    port = example.free_port()
    for name, value in example.slurm(number, port, node="127.0.0.1").items():
        monkeypatch.setenv(name, value)
    missing = ("process 1 of 2 did not join", "process 0 of 2 did not answer at")[number]
    with pytest.raises(TimeoutError, match=f"{missing} 127.0.0.1:{port} within 0.3 s"):
        mesh.start(timeout=0.3)


def test_no_launcher():
    with pytest.raises(ValueError, match="cannot be joined: .* it takes the environment of Slurm, Open MPI or a TPU"):
        mesh.start(timeout=0.2)


SLURM = {"SLURM_LOCALID": "1", "SLURM_NODEID": "0"}
OPEN_MPI = {"OMPI_COMM_WORLD_LOCAL_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}


@pytest.mark.parametrize(
    ("environment", "devices", "taken"),
    [
        ({}, 4, None),
        ({"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}, 8, None),  # one process a node takes all of it
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "4(x2)"}, 4, [1]),
        (SLURM | {"SLURM_TASKS_PER_NODE": "4(x2)"}, 8, [2, 3]),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "3,2", "SLURM_NODEID": "1"}, 8, [4, 5, 6, 7]),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "3,1(x2)", "SLURM_NODEID": "2", "SLURM_LOCALID": "0"}, 8, None),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "4"}, 1, None),  # each sees the one that it was given
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "4"}, None, None),  # a CPU, for example
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_GPUS_PER_TASK": "2"}, 2, None),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_TRES_PER_TASK": "cpu=4,gres/gpu=2"}, 2, None),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2", "JAX_LOCAL_DEVICE_IDS": "0"}, 2, None),  # JAX reads it itself
        (OPEN_MPI, 4, [2, 3]),
        (OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}, 4, None),
    ],
)
def test_no_device_of_a_node_is_idle(environment, devices, taken):
    assert _cluster.local_device_ids(environment, devices) == taken


def test_what_a_process_sees(tmp_path):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert _cluster.visible_devices({}, tmp_path) == 2
    assert _cluster.visible_devices({}, tmp_path / "none") is None
    assert _cluster.visible_devices({"CUDA_VISIBLE_DEVICES": "2,3,5"}, tmp_path) == 3
    assert _cluster.visible_devices({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == 0
    with pytest.raises(ValueError, match="SLURM_STEP_TASKS_PER_NODE is 'two'; it takes numbers of tasks"):
        _cluster.local_device_ids({"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "two"}, 2)


@pytest.mark.parametrize(("tasks", "setting"), [("1(x2)", None), ("2", [2, 3])])
def test_jax_is_told_which_devices_a_process_takes(monkeypatch, tasks, setting):
    """And does not choose for itself, which would be one by the rank on the node."""
    told = {}
    monkeypatch.setattr(mesh, "rendezvous", lambda *place, timeout: {})
    monkeypatch.setattr(mesh.jax.distributed, "initialize", lambda *place, **options: told.update(options))
    monkeypatch.setattr(mesh.jax.config, "update", lambda name, value: told.update({name: value}))
    variables = {"SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_NODEID": "0", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    for name, value in (example.slurm(1, 9) | variables).items():
        monkeypatch.setenv(name, value)
    mesh.start()
    assert told["local_device_ids"] == setting and told["cluster_detection_method"] == "deactivate"
    assert told["jax_enable_preemption_service"] is False


def lifelines(count):
    """Process 0 and the others, connected; and what each is told of who is lost."""
    told = {number: [] for number in range(count)}
    pairs = {number: socket.socketpair() for number in range(1, count)}
    first = Lifeline({number: pair[0] for number, pair in pairs.items()}, told[0].append)
    others = {number: Lifeline({0: pair[1]}, told[number].append) for number, pair in pairs.items()}
    return first, others, pairs, told


def until(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_a_process_that_is_gone_is_noticed_by_all():
    first, others, pairs, told = lifelines(3)
    pairs[2][1].shutdown(socket.SHUT_RDWR)  # as when the process dies
    assert until(lambda: told[0] == [2] and told[1] == [2])
    for line in (first, *others.values()):
        line.close()


def test_process_0_is_noticed_too():
    first, others, pairs, told = lifelines(2)
    pairs[1][0].shutdown(socket.SHUT_RDWR)
    assert until(lambda: told[1] == [0])
    others[1].close()
    first.close()


def test_processes_that_say_goodbye_are_not_missed():
    first, others, pairs, told = lifelines(3)
    others[1].close()
    others[2].close()
    time.sleep(0.1)
    first.close()
    time.sleep(0.1)
    assert not any(told.values())


def meeting(*processes, count, timeout=10.0):
    """Process ids that meet in threads: what each raises, or None."""
    coordinator = f"127.0.0.1:{example.free_port()}"

    def come(process_id):
        try:
            for connection in rendezvous(coordinator, count, process_id, timeout=timeout).values():
                connection.close()
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
    coordinator = f"127.0.0.1:{example.free_port()}"
    stranger = threading.Thread(target=strange, args=(coordinator,))
    stranger.start()
    with pytest.raises(TimeoutError, match="process 1 of 2 did not join"):
        rendezvous(coordinator, 2, 0, timeout=1.0)
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
    assert mesh.broadcast_int(5) == 5 and mesh.allgather_text("ü") == ["ü"]
    value = mesh.replicated(mesh.over(), jnp.arange(3))
    assert len(value.sharding.device_set) == 8 and value.is_fully_replicated
