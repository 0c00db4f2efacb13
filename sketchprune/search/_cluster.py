"""What a launcher tells the processes it starts: how many there are, where they meet, and which devices are whose."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
_OPEN_MPI = ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
_TASKS_PER_NODE = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")
_TRES = ("SLURM_TRES_PER_TASK",)
"""What Slurm gives to each task; devices among it are of the task alone."""
_NUM_PORTS = 2**12
"""The port comes from the highest ones, of which none is well known. The job's number chooses it, so that jobs which
share a machine get different ones."""


class LaunchedProcess(NamedTuple):
    """One of several processes: the arguments of :func:`sketchprune.search.mesh.start`."""

    coordinator: str
    num_processes: int
    process_id: int


def launched_process(environment: Mapping[str, str]) -> LaunchedProcess | None:
    """This process as Slurm's srun or Open MPI's mpirun describes it; None where neither has started it.

    The coordinator is the first node of Slurm's step, or the address of mpirun's machine. Its port is
    JAX_COORDINATOR_PORT, or else comes from the job's number. ValueError for a variable that cannot be read.

    >>> launched_process({"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[07-09,12],other", "SLURM_NTASKS": "4",
    ...                   "SLURM_PROCID": "3", "SLURM_LOCALID": "1"})
    LaunchedProcess(coordinator='node07:61447', num_processes=4, process_id=3)
    """
    if all(name in environment for name in _SLURM):
        _, _, count, number, _ = _SLURM
        host, job = _slurm_coordinator(environment)
    elif all(name in environment for name in _OPEN_MPI):
        _, count, number = _OPEN_MPI
        host, job = _open_mpi_coordinator(environment)
    else:
        return None
    port = 2**16 - _NUM_PORTS + job % _NUM_PORTS
    if "JAX_COORDINATOR_PORT" in environment:
        port = _number(environment, "JAX_COORDINATOR_PORT")
    return LaunchedProcess(f"{host}:{port}", _number(environment, count), _number(environment, number))


def local_device_ids(environment: Mapping[str, str], num_devices: int | None) -> list[int] | None:
    """Which of the accelerators that it sees this process takes: its share where others of its node see the same ones.

    Left to itself JAX gives each process that Slurm or Open MPI started one device, by its rank on the node.

    Args:
        environment: of the process.
        num_devices: how many accelerators it sees; None where that is not known.

    Returns:
        Their numbers; None for all of them: where the process is alone on its node, or sees fewer devices than there
        are processes on the node, or was given devices of its own.

    >>> local_device_ids({"OMPI_COMM_WORLD_LOCAL_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}, 4)
    [2, 3]
    """
    size, rank = _place_on_node(environment)
    own = any("gpu" in environment.get(name, "").lower() for name in _TRES) or "SLURM_GPUS_PER_TASK" in environment
    if size == 1 or own or num_devices is None or num_devices < size or "JAX_LOCAL_DEVICE_IDS" in environment:
        return None
    return list(range(rank * num_devices // size, (rank + 1) * num_devices // size))


def visible_devices(environment: Mapping[str, str], folder: Path = Path("/dev")) -> int | None:
    """How many accelerators a process sees; None where that is not known.

    Args:
        environment: of the process. A list of visible devices in it goes first.
        folder: where the operating system shows devices.
    """
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        if name in environment:
            return len([each for each in environment[name].split(",") if each.strip()])
    return len([each for each in folder.glob("nvidia*") if each.name.removeprefix("nvidia").isdigit()]) or None


def _place_on_node(environment: Mapping[str, str]) -> tuple[int, int]:
    """How many processes run on this node, and which of them this is; alone where no launcher says so."""
    if "OMPI_COMM_WORLD_LOCAL_SIZE" in environment:
        return _number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE"), _number(environment, "OMPI_COMM_WORLD_LOCAL_RANK")
    tasks = next((environment[name] for name in _TASKS_PER_NODE if name in environment), None)
    if tasks is None or "SLURM_LOCALID" not in environment:
        return 1, 0
    counts: list[int] = []
    for part in tasks.split(","):  # such as 2(x3),1: two tasks on each of three nodes, and one on the next
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if found is None:
            raise ValueError(f"SLURM_STEP_TASKS_PER_NODE is {tasks!r}; it takes numbers of tasks, such as 2(x3),1")
        counts += [int(found[1])] * int(found[2] or 1)
    node = _number(environment, "SLURM_NODEID") if "SLURM_NODEID" in environment else 0
    return counts[min(node, len(counts) - 1)], _number(environment, "SLURM_LOCALID")


def _slurm_coordinator(environment: Mapping[str, str]) -> tuple[str, int]:
    """The first node of the step, and the job's number."""
    job, nodes, *_ = _SLURM
    number = _number(environment, job)
    # The list holds names and ranges of names: a prefix, numbers in brackets, a suffix.
    first = re.match(r"([^,\[\]]+)(?:\[(\w+)[^\]]*\]([^,\[]*))?", environment[nodes])
    if first is None:
        raise ValueError(f"{nodes} is {environment[nodes]!r}; it takes names of nodes")
    return "".join(part or "" for part in first.groups()), number


def _open_mpi_coordinator(environment: Mapping[str, str]) -> tuple[str, int]:
    """The address of mpirun's machine, and the job's number."""
    uri, *_ = _OPEN_MPI
    # Such as 1531576320.0;tcp://10.96.0.1,10.148.0.1:34911, or tcp6://[fe80::1,fe80::2]:43370.
    found = re.match(r"(\d+)\..*tcp6?://(\[[^,\]]+|[^,:\[]+)", environment[uri])
    if found is None:
        raise ValueError(f"{uri} is {environment[uri]!r}; it takes a job's number and a tcp address")
    # Open MPI numbers jobs in multiples of 2^12 or more.
    return found[2] + "]" * found[2].startswith("["), int(found[1]) // _NUM_PORTS


def _number(environment: Mapping[str, str], name: str) -> int:
    if not environment[name].isdigit():
        raise ValueError(f"{name} is {environment[name]!r}; it takes a whole number")
    return int(environment[name])
