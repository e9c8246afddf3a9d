"""Whatever goes wrong is reported where it happened, and does not end the visit."""

import hashlib
import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.conftest import Visit
from tests.e2e.service import Service
from tests.e2e.steps import DOG, captioned, choose

pytestmark = pytest.mark.e2e


def test_a_text_named_like_a_picture_is_explained_and_the_next_picture_works(
    page: Page, tmp_path: Path, complaints: list[str]
) -> None:
    text = tmp_path / "holiday.jpg"
    text.write_text("Dear diary, this is no picture.")
    choose(page, text)
    card = page.locator(".card", has_text="holiday.jpg")
    expect(card.get_by_role("alert")).to_contain_text("this is not a picture but text")
    expect(card.get_by_role("button", name="Try again")).to_be_hidden()  # it would be no better
    complaints.clear()
    expect(captioned(page).locator(".sentence")).to_contain_text("dog")
    expect(card.get_by_role("alert")).to_be_visible()


def test_a_server_that_went_away_is_explained_and_can_come_back(
    visit: Visit, tmp_path: Path, complaints: list[str]
) -> None:
    with Service(tmp_path) as service:
        page = visit(service)
        expect(page.locator("#model")).not_to_be_empty()
    choose(page, DOG)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The server cannot be reached")
    complaints.clear()
    with Service(tmp_path, port=service.port):
        alert.get_by_role("button", name="Try again").click()
        expect(page.locator(".sentence")).to_contain_text("dog")
        expect(alert).to_be_hidden()


def test_a_busy_server_says_how_long_to_wait(page: Page, complaints: list[str]) -> None:
    def refuse(route: Route) -> None:
        document = {"type": "urn:captionist:problem:overloaded", "title": "Busy", "status": 503, "detail": "Full."}
        headers = {"Retry-After": "4", "Content-Type": "application/problem+json"}
        route.fulfill(status=503, headers=headers, body=json.dumps(document))

    page.route("**/v1/captions", refuse, times=1)
    choose(page, DOG)
    expect(page.get_by_role("alert")).to_contain_text("4 seconds")
    complaints.clear()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".sentence")).to_contain_text("dog")
    expect(page.locator(".card")).to_be_focused()


def test_an_api_key_is_asked_for_and_what_was_begun_goes_on(
    visit: Visit, tmp_path: Path, complaints: list[str]
) -> None:
    keys = [{"name": "test", "sha256": hashlib.sha256(b"open-sesame").hexdigest()}]
    with Service(tmp_path, api_keys=keys) as service:
        page = visit(service)
        choose(page, DOG)
        field = page.get_by_label("API key")
        expect(field).to_be_focused()
        field.fill("open-barley")
        field.press("Enter")
        expect(page.locator("#key-note")).to_contain_text("did not accept that key")
        field.fill("open-sesame")
        page.get_by_role("button", name="Continue").click()
        expect(page.locator(".sentence")).to_contain_text("dog")
        expect(field).to_be_hidden()
        complaints.clear()

        page.reload()  # the tab remembers
        expect(captioned(page).locator(".sentence")).to_contain_text("dog")
        assert page.evaluate("localStorage.length") == 0
        page.get_by_role("button", name="Yes").click()
        expect(page.locator(".thanks-text")).to_be_visible()
        expect(page.get_by_role("checkbox")).to_have_count(0)  # this server keeps no pictures


def test_a_file_that_changed_since_it_was_chosen_is_explained(page: Page, tmp_path: Path) -> None:
    picture = tmp_path / "gone.jpg"
    picture.write_bytes(DOG.read_bytes())
    # Between choosing and reading it goes away; a drag of a folder looks the same.
    page.evaluate(
        "() => { Blob.prototype.arrayBuffer = () => Promise.reject(new DOMException('gone', 'NotFoundError')); }"
    )
    choose(page, picture)
    expect(page.get_by_role("alert")).to_contain_text("This cannot be read")
