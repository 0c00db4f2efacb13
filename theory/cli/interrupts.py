"""Interrupts: SIGTERM ends a command as Ctrl-C does, and neither is lost."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

_AGAIN_S = 0.05
"""Time after which an interrupt that was lost comes again."""


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Inside this block SIGTERM raises KeyboardInterrupt as Ctrl-C does, and an interrupt that is lost comes again.

    Python drops an exception that is raised inside a callback of its garbage collector, a finaliser or a callback of a
    weak reference, and JAX has all of these. What is dropped there is reported to ``sys.unraisablehook``.
    """
    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to the main thread alone
        yield
        return
    before, report = signal.signal(signal.SIGTERM, signal.default_int_handler), sys.unraisablehook
    repeats: list[threading.Timer] = []

    def report_or_repeat(lost: Any):
        if issubclass(lost.exc_type, KeyboardInterrupt):
            # Sent to the process: the main thread, which may wait for a lock, would not notice one of another thread.
            repeats.append(threading.Timer(_AGAIN_S, os.kill, [os.getpid(), signal.SIGINT]))
            repeats[-1].start()
        else:
            report(lost)

    sys.unraisablehook = report_or_repeat
    try:
        yield
    finally:
        for repeat in repeats:
            repeat.cancel()
        sys.unraisablehook = report
        signal.signal(signal.SIGTERM, before)
