"""What people say of a caption is stored, and can be taken back."""

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.e2e.conftest import PLAIN_HOST, Visit
from tests.e2e.service import Service
from tests.e2e.steps import captioned, sentence

pytestmark = pytest.mark.e2e


def thanked(card: Locator) -> None:
    expect(card.locator(".thanks-text")).to_be_visible()
    expect(card.locator(".thanks-text")).to_be_focused()


def test_a_rating_is_stored_and_undone(page: Page, service: Service) -> None:
    before = service.feedback()
    card = captioned(page)
    card.get_by_role("button", name="Yes").click()
    thanked(card)
    [stored] = service.feedback()[len(before) :]
    assert (stored["rating"], stored["correction"], stored["caption"]) == ("good", None, sentence(card))
    assert not stored["picture_kept"]
    card.get_by_role("button", name="Undo").click()
    expect(card.get_by_role("button", name="Yes")).to_be_focused()
    assert service.feedback() == before


def test_a_correction_is_stored_and_undone(page: Page, service: Service) -> None:
    before = service.feedback()
    card = captioned(page)
    text = sentence(card)
    card.get_by_role("button", name="Correct it").click()
    field = card.get_by_role("textbox")
    expect(field).to_be_focused()
    expect(field).to_have_value(text)
    field.press("Enter")  # unchanged: nothing to send
    assert field.evaluate("field => field.validationMessage") == "This is the model's own sentence."
    field.fill('  A German shepherd\nstands "in" the grass. ')
    field.press("Enter")
    thanked(card)
    mine = 'A German shepherd stands "in" the grass.'
    expect(card.locator(".sentence")).to_have_text(mine)
    [stored] = service.feedback()[len(before) :]
    assert (stored["rating"], stored["correction"], stored["caption"]) == ("bad", mine, text)
    card.get_by_role("button", name="Copy as alt").click()
    expect(card.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == 'alt="A German shepherd stands &quot;in&quot; the grass."'

    card.get_by_role("button", name="Undo").click()
    expect(card.locator(".word").first).to_be_visible()
    assert sentence(card) == text
    assert service.feedback() == before
    card.get_by_role("button", name="Correct it").click()
    expect(field).to_have_value(mine)  # not lost
    field.press("Escape")
    expect(card.get_by_role("button", name="Correct it")).to_be_focused()


def test_no_and_then_a_correction_is_one_opinion(page: Page, service: Service) -> None:
    before = service.feedback()
    card = captioned(page)
    card.get_by_role("button", name="No", exact=True).click()
    thanked(card)
    assert [entry["rating"] for entry in service.feedback()[len(before) :]] == ["bad"]
    card.get_by_role("button", name="Write a better one").click()
    card.get_by_role("textbox").fill("A dog stands in the grass.")
    with page.expect_response(lambda answer: answer.request.method == "DELETE"):
        card.get_by_role("button", name="Send correction").click()
    thanked(card)
    assert [entry["correction"] for entry in service.feedback()[len(before) :]] == ["A dog stands in the grass."]


def test_a_better_alternative_is_a_correction(page: Page, service: Service) -> None:
    before = service.feedback()
    card = captioned(page)
    first = sentence(card)
    card.locator(".other:visible").first.click()
    expect(card.get_by_role("heading", name="Is this one better?")).to_be_visible()
    expect(card.get_by_role("button", name="No", exact=True)).to_be_hidden()
    card.get_by_role("button", name="Yes").click()
    thanked(card)
    [stored] = service.feedback()[len(before) :]
    assert (stored["caption"], stored["correction"]) == (first, sentence(card))


def test_a_picture_is_kept_only_with_consent(page: Page, service: Service) -> None:
    before = service.feedback()
    card = captioned(page)
    consent = card.get_by_role("checkbox")
    expect(consent).not_to_be_checked()
    consent.check()
    card.get_by_role("button", name="Yes").click()
    thanked(card)
    expect(card.locator(".thanks-text")).to_contain_text("The picture is kept with it.")
    assert [entry["picture_kept"] for entry in service.feedback()[len(before) :]] == [True]
    card.get_by_role("button", name="Undo").click()
    expect(card.get_by_role("button", name="Yes")).to_be_focused()
    assert service.feedback() == before


def test_an_answer_that_was_lost_is_not_stored_twice(page: Page, service: Service, complaints: list[str]) -> None:
    before = service.feedback()
    card = captioned(page)

    def lose(route: Route) -> None:
        route.fetch()
        route.abort("connectionreset")

    page.route("**/v1/feedback", lose, times=1)
    card.get_by_role("button", name="Yes").click()
    expect(card.get_by_role("alert")).to_contain_text("The server cannot be reached")
    assert len(service.feedback()) == len(before) + 1
    card.get_by_role("button", name="Try again").click()
    thanked(card)
    assert len(service.feedback()) == len(before) + 1
    complaints.clear()


def test_plain_http_is_enough(visit: Visit, service: Service) -> None:
    """Beyond localhost, browsers give a page on plain HTTP neither navigator.clipboard nor crypto.randomUUID."""
    page = visit(service, host=PLAIN_HOST)
    assert not page.evaluate("isSecureContext")
    card = captioned(page)
    card.get_by_role("button", name="Copy text").click()
    expect(card.get_by_role("button", name="Copied")).to_be_visible()
    assert visit(service).evaluate("navigator.clipboard.readText()") == sentence(card)
    card.get_by_role("button", name="Yes").click()
    thanked(card)
