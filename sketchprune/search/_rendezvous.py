"""Processes meet over plain TCP before JAX's own start, which aborts the interpreter when one of them is missing."""

import json
import socket
import time

_MAX_LINE_BYTES = 4096
_RETRY_S = 0.1
"""Time between two attempts to reach the coordinator."""


def rendezvous(
    coordinator: str, num_processes: int, process_id: int, *, timeout: int | float = 60.0
) -> dict[int, socket.socket]:
    """Return once all processes have reported to the coordinator.

    Process 0 listens at ``coordinator``, and the others report to it. The port is free again when this returns.

    Args:
        coordinator: "host:port".
        num_processes: how many processes there are.
        process_id: which of them this is, from 0 on.
        timeout: seconds to wait for the others.

    Returns:
        By process id the connections to the others, open: of process 0 to all of them, of another one to process 0.

    Raises:
        TimeoutError: in every process that came, naming those that did not come in time.
        ValueError: when two processes claim one id or disagree on their number.
    """
    host, port = address(coordinator)
    deadline = time.monotonic() + timeout
    if process_id == 0:
        return _receive(host, port, num_processes, deadline, timeout)
    return {0: _report(host, port, num_processes, process_id, deadline, timeout)}


def address(coordinator: str) -> tuple[str, int]:
    """Host and port of "host:port"."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise ValueError(f"coordinator is {coordinator!r}; it takes host:port, such as 127.0.0.1:9876")
    return host.strip("[]"), int(port)


def _receive(
    host: str, port: int, num_processes: int, deadline: float, timeout: int | float
) -> dict[int, socket.socket]:
    """Process 0: wait for the others, then tell all of them how it went."""
    guests: dict[int, socket.socket] = {}
    refused: list[socket.socket] = []
    problem: Exception | None = None
    try:
        with _listening(host, port) as server:
            while len(guests) < num_processes - 1 and problem is None:
                server.settimeout(_left(deadline))
                try:
                    guest, _ = server.accept()
                except TimeoutError:
                    missing = ", ".join(str(i) for i in range(1, num_processes) if i not in guests)
                    problem = TimeoutError(
                        f"process {missing} of {num_processes} did not join {host}:{port} within {timeout:g} s"
                    )
                    break
                if (claim := _claim(guest, deadline)) is None:
                    guest.close()
                    continue
                number, count = claim
                if count == num_processes and 0 < number < num_processes and number not in guests:
                    guests[number] = guest
                else:
                    refused.append(guest)
                    problem = ValueError(
                        f"process_id {number} of {count} came to {host}:{port}; "
                        f"it takes each of 1 to {num_processes - 1} once, all with num_processes {num_processes}"
                    )
        _answer([*guests.values(), *refused], problem)
        if problem is not None:
            raise problem
    except BaseException:
        for guest in (*guests.values(), *refused):
            guest.close()
        raise
    return guests


def _left(deadline: float) -> float:
    """Seconds until the deadline, as a positive time that a socket can wait."""
    return max(deadline - time.monotonic(), 1e-3)


def _claim(guest: socket.socket, deadline: float) -> tuple[int, int] | None:
    """Which process of how many a guest says it is; None for one that does not speak this protocol."""
    try:
        guest.settimeout(min(_left(deadline), 5))
        number, count = json.loads(_line(guest))
        return number, count
    except (OSError, ValueError, TypeError):
        return None


def _answer(guests: list[socket.socket], problem: Exception | None) -> None:
    """Tell the guests how it went, and after a problem wait until each has closed its side: the port is free then."""
    answer = {"problem": None if problem is None else str(problem)}
    for guest in guests:
        try:
            guest.sendall(json.dumps(answer).encode() + b"\n")
            if problem is not None:
                guest.recv(1)
        except OSError:
            pass


def _listening(host: str, port: int) -> socket.socket:
    # On its own machine a name may stand for the loop-back address, where other machines cannot reach it. A process
    # that is given a name therefore listens at all addresses of its machine.
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


def _report(
    host: str, port: int, num_processes: int, process_id: int, deadline: float, timeout: int | float
) -> socket.socket:
    """Any other process: reach process 0 and hear from it."""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"process 0 of {num_processes} did not answer at {host}:{port} within {timeout:g} s")
        try:
            # After the deadline the coordinator still has to say who is missing.
            server = socket.create_connection((host, port), timeout=left)
        except OSError:
            time.sleep(_RETRY_S)
            continue
        try:
            server.settimeout(left + 5)
            server.sendall(json.dumps([process_id, num_processes]).encode() + b"\n")
            problem = json.loads(_line(server))["problem"]
        except (OSError, ValueError):
            server.close()
            time.sleep(_RETRY_S)
            continue
        if problem is None:
            return server
        server.close()
        raise TimeoutError(problem) if "did not join" in problem else ValueError(problem)


def _line(connection: socket.socket) -> bytes:
    """What the other side sends, up to the end of the line."""
    received = b""
    while not received.endswith(b"\n"):
        part = connection.recv(_MAX_LINE_BYTES)
        if not part or len(received) > _MAX_LINE_BYTES:
            raise ValueError("the connection ended before its line did")
        received += part
    return received
