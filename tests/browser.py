"""A page looked at in headless Chromium, through its DevTools pipe."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

PATIENCE_S = 120

QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


@dataclass
class Seen:
    """What a browser made of a page."""

    title: str
    widths: dict[int, int]
    """Width of the document by width of the window, px."""
    smallest_text_px: dict[int, float]
    """The smallest text on screen by width of the window, px."""
    complaints: list[str]
    """Console messages, exceptions and log entries."""
    requests: list[str]
    """Addresses that were asked for."""


class Pipe:
    """Chromium's DevTools protocol: JSON messages that end in a zero byte, on descriptors 3, 4."""

    def __init__(self, folder: Path) -> None:
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        self.events: list[dict[str, Any]] = []
        self._count, self._rest = 0, b""
        assert CHROMIUM is not None
        arguments = [CHROMIUM, *QUIET, f"--user-data-dir={folder}"]
        script = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "bash", *arguments],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.next()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)

    def wait_for(self, method: str) -> None:
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.next())

    def next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._from], [], [], PATIENCE_S)[0], "Chromium says nothing"
            read = os.read(self._from, 1 << 16)
            assert read, "Chromium went away"
            self._rest += read
        message, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(message))


SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll('svg text')].map(t =>
    parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a))"""


def look_at(page: Path, folder: Path, widths: tuple[int, ...], shots: Path | None = None) -> Seen:
    """Load a page from disk, at several window widths."""
    with Pipe(folder) as pipe:
        target = pipe.call("Target.createTarget", url="about:blank")["targetId"]
        session = pipe.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            pipe.call(f"{domain}.enable", session)
        pipe.events.clear()
        found, text = {}, {}

        def ask(script: str) -> Any:
            return pipe.call("Runtime.evaluate", session, expression=script)["result"]["value"]

        pipe.call("Page.navigate", session, url=page.absolute().as_uri())
        pipe.wait_for("Page.loadEventFired")
        for width in widths:
            pipe.call("Emulation.setDeviceMetricsOverride", session, width=width, height=900,
                      deviceScaleFactor=1, mobile=False)  # fmt: skip
            found[width] = int(ask("document.documentElement.scrollWidth"))
            text[width] = float(ask(SMALLEST_TEXT))
            if shots is not None:
                shot = pipe.call("Page.captureScreenshot", session, captureBeyondViewport=True)
                (shots / f"{width}.png").write_bytes(base64.b64decode(shot["data"]))
        title = str(ask("document.title"))
        complaints = [
            json.dumps(event["params"])
            for event in pipe.events
            if event["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown",
                                   "Log.entryAdded")
        ]  # fmt: skip
        requests = [
            event["params"]["request"]["url"]
            for event in pipe.events
            if event["method"] == "Network.requestWillBeSent"
        ]
    return Seen(title, found, text, complaints, requests)
