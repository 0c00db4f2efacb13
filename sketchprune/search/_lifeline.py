"""Connections over which the processes of a search notice that one of them is gone.

JAX waits for the heartbeat of a process for a minute or more, and then aborts the others with a C++ trace.
"""

import socket
import threading
from collections.abc import Callable, Mapping

_GOODBYE, _LOST = b"bye", b"lost"


class Lifeline:
    """One connection between process 0 and each of the others, watched by a thread each.

    A process that ends says goodbye first. Where a connection breaks without that, ``on_lost`` is called once with the
    id of the process that is gone. Process 0 tells the others which one it was.
    """

    def __init__(self, connections: Mapping[int, socket.socket], on_lost: Callable[[int], None]):
        self._connections = dict(connections)
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._over = False
        for process, connection in self._connections.items():
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            threading.Thread(target=self._watch, args=(process, connection), daemon=True).start()

    def close(self):
        """Say goodbye to the others, and stop watching."""
        with self._lock:
            self._over = True
        self._tell(_GOODBYE)
        for connection in self._connections.values():
            connection.close()

    def _watch(self, process: int, connection: socket.socket):
        try:
            word, _, number = connection.recv(64).partition(b" ")
        except OSError:
            word, number = b"", b""
        if word == _GOODBYE:
            return
        lost = int(number) if word == _LOST else process
        with self._lock:
            if self._over:
                return
            self._over = True
        self._tell(_LOST + b" %d" % lost)
        self._on_lost(lost)

    def _tell(self, message: bytes):
        for connection in self._connections.values():
            try:
                connection.sendall(message)
            except OSError:
                pass  # gone already
