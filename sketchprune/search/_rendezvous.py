"""Processes find one another over plain TCP before JAX's own start, which aborts the interpreter when it fails."""

import json
import socket
import time

_LINE = 4096
_RETRY = 0.1
"""Seconds between attempts to reach the coordinator."""


def rendezvous(coordinator: str, num_processes: int, process_id: int, *, timeout: int | float = 60.0) -> None:
    """Return once all processes have said at the coordinator's address that they are there.

    Process 0 listens at ``coordinator``, "host:port"; the others report to it. TimeoutError, in every process that
    came, naming those that did not within ``timeout`` seconds; ValueError where two claim one id or disagree on
    their number. The port is free again when this returns.
    """
    host, port = address(coordinator)
    deadline = time.monotonic() + timeout
    if process_id == 0:
        _receive(host, port, num_processes, deadline, timeout)
    else:
        _report(host, port, num_processes, process_id, deadline, timeout)


def address(coordinator: str) -> tuple[str, int]:
    """Host and port of "host:port"."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise ValueError(f"coordinator is {coordinator!r}; it takes host:port, such as 127.0.0.1:9876")
    return host.strip("[]"), int(port)


def _receive(host: str, port: int, num_processes: int, deadline: float, timeout: int | float):
    """Process 0: wait for the others, then tell all of them how it went."""
    guests: dict[int, socket.socket] = {}
    refused: list[socket.socket] = []
    problem: Exception | None = None
    try:
        with _listening(host, port) as server:
            while len(guests) < num_processes - 1 and problem is None:
                server.settimeout(max(deadline - time.monotonic(), 1e-3))
                try:
                    guest, _ = server.accept()
                except TimeoutError:
                    missing = ", ".join(str(i) for i in range(1, num_processes) if i not in guests)
                    problem = TimeoutError(
                        f"process {missing} of {num_processes} did not join {host}:{port} within {timeout:g} s"
                    )
                    break
                try:
                    guest.settimeout(min(max(deadline - time.monotonic(), 1e-3), 5))
                    number, count = json.loads(_line(guest))
                except (OSError, ValueError, TypeError):  # not one of ours
                    guest.close()
                    continue
                if count != num_processes or not 0 < number < num_processes or number in guests:
                    refused.append(guest)
                    problem = ValueError(
                        f"process_id {number} of {count} came to {host}:{port}; "
                        f"it takes each of 1 to {num_processes - 1} once, all with num_processes {num_processes}"
                    )
                else:
                    guests[number] = guest
        verdict = {"problem": None if problem is None else str(problem)}
        for guest in (*guests.values(), *refused):
            try:
                guest.sendall(json.dumps(verdict).encode() + b"\n")
                guest.recv(1)  # the other side closes first, so that the port is free at once
            except OSError:
                pass
    finally:
        for guest in (*guests.values(), *refused):
            guest.close()
    if problem is not None:
        raise problem


def _listening(host: str, port: int) -> socket.socket:
    # A name may stand for a loop-back address on its own machine, so a machine with a name listens at all it has.
    named = ":" not in host and host.strip("0123456789.") != ""
    both = named and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
    try:
        return socket.create_server(("" if named else host, port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise ValueError(
            f"coordinator is {host}:{port}, where process 0 cannot listen ({error.strerror}); "
            "it takes an address of its own machine and a free port"
        ) from None


def _report(host: str, port: int, num_processes: int, process_id: int, deadline: float, timeout: int | float):
    """Any other process: reach process 0 and hear from it."""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"process 0 of {num_processes} did not answer at {host}:{port} within {timeout:g} s")
        try:
            # Past the deadline the coordinator still has to say who is missing.
            with socket.create_connection((host, port), timeout=left) as server:
                server.settimeout(left + 5)
                server.sendall(json.dumps([process_id, num_processes]).encode() + b"\n")
                problem = json.loads(_line(server))["problem"]
        except (OSError, ValueError):
            time.sleep(_RETRY)
            continue
        if problem is not None:
            raise TimeoutError(problem) if "did not join" in problem else ValueError(problem)
        return


def _line(connection: socket.socket) -> bytes:
    """What the other side says, up to the end of the line."""
    received = b""
    while not received.endswith(b"\n"):
        part = connection.recv(_LINE)
        if not part or len(received) > _LINE:
            raise ValueError("the connection ended before its line did")
        received += part
    return received
