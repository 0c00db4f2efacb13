"""A page in headless Chromium, driven through the DevTools protocol over a pipe: no port and no other package."""

import json
import os
import select
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The browser; None where there is none."""
PATIENCE_S = 120
"""After so many seconds without an answer the browser counts as hung."""


class Browser:
    """One page. Console messages, errors and requests are collected from the start.

    Attributes:
        messages: what was written to the console, and errors.
        requests: the addresses that were asked for.
    """

    def __init__(self, profile: Path):
        """Start the browser, with a profile in an empty folder."""
        assert CHROMIUM is not None
        take, self._write = os.pipe()
        self._read, give = os.pipe()
        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions")
        command = [CHROMIUM, *options, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        # The browser reads commands from descriptor 3 and writes to 4.
        shell = f'exec "$0" "$@" 3<&{take} 4>&{give}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, *command],
            pass_fds=(take, give),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(take)
        os.close(give)
        self._buffer, self._number, self._session = b"", 0, None
        self._events: list[dict] = []
        self.messages: list[str] = []
        self.requests: list[str] = []
        target = next(each for each in self.send("Target.getTargets")["targetInfos"] if each["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self):
        """End the browser."""
        self.send("Browser.close")
        self._process.wait(PATIENCE_S)
        os.close(self._write)
        os.close(self._read)

    def send(self, method: str, **parameters: Any) -> Any:
        """The answer to a command of the protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def open(self, page: Path, fragment: str = ""):
        """Load a file, and wait until it is loaded."""
        self._events.clear()
        self.send("Page.navigate", url="about:blank")
        self.wait_for("Page.loadEventFired")
        self.send("Page.navigate", url=f"{page.as_uri()}{fragment}")
        self.wait_for("Page.loadEventFired")

    def wait_for(self, event: str):
        """Wait for an event, which is then forgotten."""
        while not any(each["method"] == event for each in self._events):
            self._receive()
        self._events.clear()

    def value(self, expression: str) -> Any:
        """The value of an expression in JavaScript."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, text: str = ""):
        """Press a key and let it go."""
        known = {"Tab": 9, "Enter": 13, " ": 32}
        fields = {"key": key, "windowsVirtualKeyCode": known.get(key, 0)}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **fields)
        self.send("Input.dispatchKeyEvent", type="keyUp", **fields)

    def resize(self, width: int, height: int = 800):
        """Give the page another size, in pixels."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=True)

    def _receive(self) -> dict:
        """The next message; events are noted."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], PATIENCE_S)
            piece = os.read(self._read, 1 << 20) if ready else b""
            assert piece, f"{CHROMIUM} does not answer; its exit status is {self._process.poll()}"
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        self._note(message)
        return message

    def _note(self, message: dict):
        method, parameters = message.get("method"), message.get("params", {})
        if method is None:
            return
        self._events.append(message)
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Log.entryAdded":
            self.messages.append(parameters["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.messages.append(str([each.get("value") for each in parameters["args"]]))
        elif method == "Runtime.exceptionThrown":
            self.messages.append(str(parameters["exceptionDetails"]))
