"""What a launcher writes into the environment of the processes it starts: how many there are and where they meet."""

import re
from collections.abc import Mapping
from typing import NamedTuple

_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
_OPEN_MPI = ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
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
