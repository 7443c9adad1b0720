"""A headless Chromium for tests, driven over its DevTools protocol by two pipes: no port, no package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

ANSWER_S = 60  # a loaded machine is slow; a browser that is stuck must not hold the tests
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-sync --disable-background-networking "
    "--disable-component-update --disable-extensions --mute-audio --autoplay-policy=no-user-gesture-required "
    "--remote-debugging-pipe"
).split()


class Browser:
    """One tab. ``requests`` are the addresses it asked for, ``errors`` what the console and the page's policy
    complained of, both since the last :meth:`open`."""

    def __init__(self, folder: Path, width: int = 1200, height: int = 900, scheme: str = "light") -> None:
        """Args: folder: for its profile and its downloads. Skips the test where there is no Chromium."""
        program = (
            shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        )
        if program is None:
            pytest.skip("no Chromium to open the page in")
        self.downloads = folder / "downloads"
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._number = 0
        self._rest = b""
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # Its pipes are descriptors 3 and 4: a shell puts them there.
        script = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, program, *FLAGS, f"--user-data-dir={folder / 'profile'}"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        self.resize(width, height, scheme)

    _session: str | None = None

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def resize(self, width: int, height: int = 900, scheme: str = "light") -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], ANSWER_S)
            piece = os.read(self._read, 1 << 20) if ready else b""
            if not piece:
                raise RuntimeError(f"Chromium ended, or has said nothing for {ANSWER_S} s")
            self._rest += piece
        raw, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(raw)
        what = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(what["request"]["url"])
            case "Runtime.exceptionThrown":
                details = what["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", details["text"]))
            case "Runtime.consoleAPICalled" if what["type"] in ("error", "warning", "assert"):
                self.errors.append(str([a.get("value") for a in what["args"]]))
            case "Log.entryAdded" if what["entry"]["level"] in ("error", "warning"):
                self.errors.append(what["entry"]["text"] + " " + what["entry"].get("url", ""))
        return message

    def open(self, page: Path) -> None:
        """Open a page and wait until its script has run."""
        self.requests.clear()
        self.errors.clear()
        self.send("Page.navigate", url=page.as_uri())
        self.wait(f"location.href === {json.dumps(page.as_uri())} && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        done = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in done:
            raise RuntimeError(done["exceptionDetails"]["exception"].get("description"))
        return done["result"].get("value")

    def wait(self, condition: str, seconds: float = 60.0) -> Any:
        """Wait until an expression is true, and give its value."""
        until = time.monotonic() + seconds
        while not (value := self.run(condition)):
            if time.monotonic() > until:
                raise AssertionError(f"never true: {condition}; errors: {self.errors}")
            time.sleep(0.02)
        return value

    def click(self, selector: str) -> None:
        """Click in the middle of an element, as a mouse does."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def key(self, key: str) -> None:
        """Press a key: a character, or a name such as ``ArrowRight``."""
        more: dict[str, Any] = {"text": key} if len(key) == 1 else {}
        if key == "Enter":
            more = {"text": "\r", "windowsVirtualKeyCode": 13}
        if key == "Tab":
            more = {"windowsVirtualKeyCode": 9}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **more)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def picture(self, out: Path, whole: bool = False) -> None:
        """A screenshot, PNG: of what is in view or of the whole page."""
        taken = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        out.write_bytes(base64.b64decode(taken["data"]))


# What a person can't read or hit: see `faults`.
LOOK = r"""
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true }), known = {};
  const rgba = (css) => known[css] ??= (() => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = css; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  })();
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const parents = (e) => e ? [e, ...parents(e.parentElement)] : [];
  const behind = (e) => parents(e).reverse().map((p) => rgba(getComputedStyle(p).backgroundColor))
    .reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  const linear = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (c) => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const contrast = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const called = (e) => `${e.tagName} ${e.id} "${e.textContent.trim().slice(0, 30)}"`;
  const found = new Set(), root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) found.add(`${root.scrollWidth} wide in ${root.clientWidth}`);
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement, box = e.getBoundingClientRect();
    if (!texts.currentNode.data.trim() || e.closest("svg, script, style, noscript, .unseen")) continue;
    if (!e.checkVisibility() || box.width < 2 || box.height < 2) continue;
    const ground = behind(e), [r, g, b, a] = rgba(getComputedStyle(e).color);
    const opacity = parents(e).reduce((all, p) => all * getComputedStyle(p).opacity, 1);
    const ratio = contrast(over([r, g, b, a * opacity], ground), ground);
    if (ratio < 4.5) found.add(`contrast ${ratio.toFixed(1)}: ${called(e)}`);
  }
  for (const e of document.querySelectorAll("button, select, summary, label, input:not(label input)")) {
    const box = e.getBoundingClientRect();
    if (e.checkVisibility() && box.width > 2 && Math.min(box.width, box.height) < 24) {
      found.add(`${box.width.toFixed()} x ${box.height.toFixed()}: ${called(e)}`);
    }
  }
  return [...found];
})()
"""


def faults(browser: Browser) -> list[str]:
    """What is wrong with the page as it is shown now.

    Wider than its window; text with a contrast below 4.5 (Web Content Accessibility Guidelines 2.2, 1.4.3);
    what one presses below 24 pixels (2.5.8).
    """
    found: list[str] = browser.run(LOOK)
    return found


def looks(browser: Browser, page: Path, *, ready: str = "true", states: tuple[str, ...] = ()) -> list[str]:
    """Faults of a page on a phone and on a screen, light and dark, in each of its states.

    Args:
        ready: an expression that is true once the page is drawn.
        states: scripts that lead from one state to the next.

    Returns: what was found, with where; and if light and dark are the same, that.
    """
    found, grounds = [], {}
    for width in (400, 1200):
        for scheme in ("light", "dark"):
            browser.resize(width, 900, scheme)
            browser.open(page)
            browser.wait(ready)
            for script in ("", *states):
                browser.run(script or "0")
                found += [f"{width} {scheme} {script}: {fault}" for fault in faults(browser)]
            found += [f"{width} {scheme}: {error}" for error in browser.errors]
            grounds[scheme] = browser.run("getComputedStyle(document.body).backgroundColor")
    return found if grounds["light"] != grounds["dark"] else [*found, "light and dark are the same"]
