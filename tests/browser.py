"""A real Chromium for tests of the page: started once, watched closely, asked how accessible what it shows is."""

import contextlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request, Response

CHROMIUM = next((path for path in ("/usr/bin/chromium", shutil.which("chromium") or "") if os.path.exists(path)), None)
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WITHIN_MS = 10_000.0
"""For what takes a fraction of it: the machine may be busy."""

WIDE, PHONE = (1440, 900), (390, 844)


@contextlib.contextmanager
def launched() -> "Iterator[Browser]":
    """The browser; where there is none, whatever wants it is skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="NOT TESTED: takes Playwright for Python")
    if CHROMIUM is None:
        pytest.skip("NOT TESTED: takes Chromium")
    playwright.expect.set_options(timeout=WITHIN_MS)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Visit:
    """One page of one person, and all that it did behind their back."""

    def __init__(self, context: "BrowserContext", address: str) -> None:
        self.address = address
        self.page: Page = context.new_page()
        self.page.set_default_timeout(WITHIN_MS)
        self.requests: list[Request] = []
        self.responses: list[Response] = []
        self.complaints: list[str] = []
        """What the console and the page complained of, and dialogs that markup opened."""
        self._expected: list[str] = []
        self.page.on("request", self._note_request)
        self.page.on("response", self._note_response)
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error.message}\n{error.stack}"))
        self.page.on("dialog", self._note_dialog)

    def _note_request(self, request: "Request") -> None:
        self.requests.append(request)

    def _note_response(self, response: "Response") -> None:
        self.responses.append(response)

    def _note_console(self, message: "ConsoleMessage") -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    def _note_dialog(self, dialog: "Dialog") -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def go(self, place: str = "") -> "Page":
        """To a view, by its hash, once the page has heard of the jobs."""
        self.page.goto(f"{self.address}/{place}")
        self.page.locator("#link:not([data-is=away])").wait_for()
        return self.page

    def expects(self, pattern: str) -> None:
        """What the console says about such an answer is no fault: browsers report every status that is no success."""
        self._expected.append(pattern)

    def check(self) -> None:
        """Nothing went elsewhere, and nobody complained."""
        own = ("data:", "blob:", self.address)
        elsewhere = sorted({request.url for request in self.requests if not request.url.startswith(own)})
        assert elsewhere == [], f"requests left the page's origin: {elsewhere}"
        faults = [each for each in self.complaints if not any(re.search(pattern, each) for pattern in self._expected)]
        assert faults == [], "\n".join(faults)


def violations(page: "Page") -> list[str]:
    """What axe finds wrong with what the page shows now, in words that lead to the element."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(resources.files("axe_playwright_python").joinpath("axe.min.js").read_text())
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: {node['html'][:200]} {node['any'][:1]}"
        for each in found["violations"]
        for node in each["nodes"]
    ]
