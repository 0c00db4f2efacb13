"""What a launcher says in the environment of the processes it starts: how many there are, and where they meet."""

import re
from collections.abc import Mapping
from typing import NamedTuple

_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
_OPEN_MPI = ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
_PORTS = 2**12
"""The highest of all: none of them is a well-known one. Jobs that share a machine get different ones."""


class Place(NamedTuple):
    """One of several processes; what :func:`sketchprune.search.mesh.start` takes."""

    coordinator: str
    num_processes: int
    process_id: int


def place(environment: Mapping[str, str]) -> Place | None:
    """This process, as Slurm's srun or Open MPI's mpirun has it; None where neither has started it.

    The coordinator is the first node of the step, or the address of mpirun's machine; its port comes from the
    job's number, or is JAX_COORDINATOR_PORT. ValueError for a variable that does not say what it should.

    >>> place({"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[07-09,12],other", "SLURM_NTASKS": "4",
    ...        "SLURM_PROCID": "3", "SLURM_LOCALID": "1"})
    Place(coordinator='node07:61447', num_processes=4, process_id=3)
    """
    if all(name in environment for name in _SLURM):
        job, nodes, count, number, _ = _SLURM
        job_number = _number(environment, job)
        # Names and ranges of names: a prefix, numbers in brackets, a suffix.
        first = re.match(r"([^,\[\]]+)(?:\[(\w+)[^\]]*\]([^,\[]*))?", environment[nodes])
        if first is None:
            raise ValueError(f"{nodes} is {environment[nodes]!r}; it takes names of nodes")
        host = "".join(part or "" for part in first.groups())
    elif all(name in environment for name in _OPEN_MPI):
        uri, count, number = _OPEN_MPI
        # Such as 1531576320.0;tcp://10.96.0.1,10.148.0.1:34911, or tcp6://[fe80::1,fe80::2]:43370.
        found = re.match(r"(\d+)\..*tcp6?://(\[[^,\]]+|[^,:\[]+)", environment[uri])
        if found is None:
            raise ValueError(f"{uri} is {environment[uri]!r}; it takes a job's number and a tcp address")
        job_number = int(found[1]) // _PORTS  # a multiple of it
        host = found[2] + "]" * found[2].startswith("[")
    else:
        return None
    port = 2**16 - _PORTS + job_number % _PORTS
    if "JAX_COORDINATOR_PORT" in environment:
        port = _number(environment, "JAX_COORDINATOR_PORT")
    return Place(f"{host}:{port}", _number(environment, count), _number(environment, number))


def _number(environment: Mapping[str, str], name: str) -> int:
    if not environment[name].isdigit():
        raise ValueError(f"{name} is {environment[name]!r}; it takes a whole number")
    return int(environment[name])
