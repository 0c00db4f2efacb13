"""A clock for tests of what measures time."""

import time


class Clock:
    """A clock that each call moves on by what it takes."""

    def __init__(self, monkeypatch):
        self.now, self.calls = 0.0, []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def taking(self, name, seconds):
        """A function that takes these seconds, one after another."""
        times = iter(seconds)

        def run():
            self.calls.append(name)
            self.now += next(times)

        return run
