"""A browser and the real service.

Needs Chromium (`apt-get install chromium`) and, for the accessibility tests, axe-core (`npm install axe-core` in the
repository, or AXE_CORE naming a folder that holds axe.min.js). Without them these tests are skipped; in CI they fail.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from harness.processes import HOST
from tests.e2e.service import Service
from tests.tools import missing

REPOSITORY = Path(__file__).parents[2]
CHROMIUM = Path("/usr/bin/chromium")
PLAIN_HOST = "captionist.test"  # this machine, but to the browser a stranger, and plain HTTP therefore insecure
_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
    f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1",
]  # fmt: skip
# A finger for a pointer, and nothing that hovers.
_TOUCH = "--blink-settings=availablePointerTypes=2,primaryPointerType=2,availableHoverTypes=1,primaryHoverType=1"
_PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}

_PATIENCE = 60_000  # milliseconds: far more than anything takes, on a machine that is busy with other things
expect.set_options(timeout=_PATIENCE)

Visit = Callable[..., Page]


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Open to everybody on this machine, and keeping pictures."""
    with Service(tmp_path_factory.mktemp("service"), keep_pictures=True) as service:
        yield service


# Not beyond this package: while Playwright lives, a loop runs in this thread, and asyncio.run works nowhere.
@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    if not CHROMIUM.exists():
        missing(f"{CHROMIUM} (apt-get install chromium)")
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
    yield browser
    browser.close()


@pytest.fixture(scope="package")
def phone_browser(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*_FLAGS, _TOUCH])
    yield browser
    browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained about. A test that provokes complaints clears it; what is left fails the test."""
    return []


@pytest.fixture
def visit(request: pytest.FixtureRequest, complaints: list[str]) -> Iterator[Visit]:
    """visit(service, phone=False, host="127.0.0.1", **options of a browser context) -> its page.

    At the end there must have been no error on the console, no violation of the Content-Security-Policy (which is one),
    and no request to anywhere but the service.
    """
    contexts: list[BrowserContext] = []
    strays: list[str] = []

    def visit(service: Service, *, phone: bool = False, host: str = HOST, **options: Any) -> Page:
        home = service.url.replace(HOST, host)
        browser: Browser = request.getfixturevalue("phone_browser" if phone else "browser")
        options = {"reduced_motion": "reduce", **(_PHONE if phone else {}), **options}
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **options)
        contexts.append(context)
        context.set_default_timeout(_PATIENCE)
        context.on("request", lambda sent: None if _at_home(sent.url, home) else strays.append(sent.url))
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(home)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert strays == []
    assert complaints == []


def _at_home(url: str, home: str) -> bool:
    return url.startswith((f"{home}/", f"blob:{home}/", "data:"))


@pytest.fixture
def page(visit: Visit, service: Service) -> Page:
    return visit(service)


@pytest.fixture(scope="package")
def axe() -> str:
    """The source of axe-core."""
    named = os.environ.get("AXE_CORE")
    folder = Path(named) if named else REPOSITORY / "node_modules" / "axe-core"
    script = folder / "axe.min.js"
    if not script.is_file():
        missing(f"{script} (npm install axe-core, or AXE_CORE)")
    return script.read_text(encoding="utf-8")
