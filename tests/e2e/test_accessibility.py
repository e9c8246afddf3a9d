"""With the keyboard alone, and by the rules that axe-core can check."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Visit
from tests.e2e.service import Service
from tests.e2e.steps import DOG, canvas, captioned, choose

pytestmark = pytest.mark.e2e


def violations(page: Page, axe: str) -> list[str]:
    """The serious and critical ones, by rule and place."""
    page.evaluate(axe)
    found: list[dict[str, Any]] = page.evaluate("axe.run().then(({ violations }) => violations)")
    return [
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    visit: Visit, service: Service, axe: str, scheme: str, phone: bool, complaints: list[str]
) -> None:
    page = visit(service, phone=phone, color_scheme=scheme)
    expect(page.locator("#model")).not_to_be_empty()
    assert violations(page, axe) == []

    card = captioned(page)
    card.locator(".word").nth(1).click()
    assert violations(page, axe) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    card.get_by_role("button", name="Correct it").click()
    assert violations(page, axe) == []
    card.get_by_role("textbox").fill("A dog stands in the grass.")
    card.get_by_role("button", name="Send correction").click()
    expect(card.locator(".thanks-text")).to_be_visible()
    assert violations(page, axe) == []
    card.get_by_role("button", name="Undo").click()

    page.set_input_files("#choose", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"})
    expect(page.get_by_role("alert")).to_be_visible()
    assert violations(page, axe) == []
    complaints.clear()


@pytest.mark.parametrize("width", [320, 600])  # 1280 pixels at 400 %, 1200 at 200 %
def test_nothing_is_cut_off_when_zoomed(visit: Visit, service: Service, width: int) -> None:
    page = visit(service, viewport={"width": width, "height": 600}, device_scale_factor=2)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    captioned(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_keyboard_alone_is_enough(page: Page, service: Service) -> None:
    before = service.feedback()

    def tab_to(selector: str) -> None:
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"{selector} cannot be reached")

    # From the start: a chooser that opens before the browser expects it is lost.
    page.on("filechooser", lambda chooser: chooser.set_files(DOG))
    tab_to("#choose")
    page.keyboard.press("Enter")
    card = page.locator(".card")
    expect(card.locator(".result")).to_be_visible()

    tab_to(".word")
    expect(card.locator("canvas")).to_have_css("opacity", "1")
    first = canvas(card)
    page.keyboard.press("ArrowRight")
    assert canvas(card) != first
    page.keyboard.press("Escape")
    expect(card.locator("canvas")).to_have_css("opacity", "0")

    tab_to(".correct")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+a")
    page.keyboard.type("A dog stands in the grass.")
    page.keyboard.press("Enter")
    expect(card.locator(".thanks-text")).to_be_focused()
    assert [entry["correction"] for entry in service.feedback()[len(before) :]] == ["A dog stands in the grass."]
    tab_to(".undo")
    page.keyboard.press("Enter")
    expect(card.locator(".up")).to_be_focused()
    assert service.feedback() == before
    page.keyboard.press("Space")
    expect(card.locator(".thanks-text")).to_be_focused()
    assert [entry["rating"] for entry in service.feedback()[len(before) :]] == ["good"]


def test_headings_and_landmarks_lead_through_the_page(page: Page) -> None:
    """The heading order and the landmarks that people who hear the page go by."""
    expect(page.get_by_role("main")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text("What is in this picture?")
    choose(page, DOG)
    expect(page.get_by_role("article", name="dog.jpg")).to_be_visible()
    expect(page.get_by_role("toolbar")).to_have_count(1)
