"""A picture's way in, and what comes back."""

import base64
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Visit
from tests.e2e.service import Service
from tests.e2e.steps import DOG, EXAMPLES, FAILURES, canvas, captioned, choose, sentence
from tests.images.samples import save
from tests.images.test_colours import icc_profile

pytestmark = pytest.mark.e2e


def test_a_chosen_picture_gets_a_caption_with_alternatives(page: Page) -> None:
    card = captioned(page)
    text = sentence(card)
    assert "dog" in text
    assert text.endswith(".")
    expect(card.locator(".confidence")).to_contain_text("%")
    expect(card.locator("img")).to_have_attribute("alt", text)
    expect(page.locator("#news")).to_contain_text(text)  # the live region
    expect(page.locator("#news")).to_have_attribute("aria-live", "polite")

    other = card.locator(".other:visible").first
    instead = other.inner_text().rsplit(".", 1)[0] + "."
    other.click()
    expect(card.locator("img")).to_have_attribute("alt", instead)
    assert sentence(card) == instead
    assert card.locator(".word").first.evaluate("word => word === document.activeElement")
    expect(card.locator(".other", has_text=text)).to_be_visible()  # the first one can come back


def test_a_dropped_picture_gets_a_caption(page: Page) -> None:
    transfer = page.evaluate_handle(
        """(data) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], "dropped.jpg", { type: "image/jpeg" }));
            return transfer;
        }""",
        base64.b64encode(DOG.read_bytes()).decode(),
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": transfer})
    expect(page.locator("body.dragging")).to_be_attached()
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    expect(page.locator("body.dragging")).not_to_be_attached()
    expect(page.get_by_role("heading", name="dropped.jpg")).to_be_visible()
    expect(page.locator(".sentence")).to_contain_text("dog")


def test_an_iphone_photograph_gets_a_caption(page: Page, tmp_path: Path) -> None:
    """HEIC, Display P3, turned by EXIF: this browser cannot show it, and the service reads it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(DOG) as picture:
        stored = picture.transpose(Image.Transpose.ROTATE_90)
    profile = icc_profile("Display P3")
    (tmp_path / "IMG_1.HEIC").write_bytes(save(stored, "HEIF", exif=exif.tobytes(), icc_profile=profile))
    assert "dog" in sentence(captioned(page, tmp_path / "IMG_1.HEIC"))


def test_a_pasted_picture_gets_a_caption(page: Page) -> None:
    png = io.BytesIO()
    with Image.open(DOG) as picture:
        picture.save(png, "PNG")
    page.evaluate(
        """(data) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const blob = new Blob([bytes], { type: "image/png" });
            return navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
        }""",
        base64.b64encode(png.getvalue()).decode(),
    )
    page.keyboard.press("Control+v")
    expect(page.get_by_role("heading", name="Pasted picture")).to_be_visible()
    expect(page.locator(".sentence")).to_contain_text("dog")


def test_pasted_text_is_explained(page: Page) -> None:
    page.evaluate("navigator.clipboard.writeText('no picture')")
    page.keyboard.press("Control+v")
    expect(page.get_by_role("alert")).to_contain_text("no picture in the clipboard")


def test_several_pictures_become_cards_newest_first(page: Page) -> None:
    captioned(page)
    choose(page, EXAMPLES / "river.jpg", EXAMPLES / "palace.jpg", FAILURES / "cat.jpg")
    expect(page.locator(".sentence .word").first).to_be_visible()
    expect(page.locator(".result:visible")).to_have_count(4)
    assert page.locator(".card .name").all_inner_texts() == ["river.jpg", "palace.jpg", "cat.jpg", "dog.jpg"]
    page.get_by_role("button", name="Remove palace.jpg").click()
    expect(page.locator(".card")).to_have_count(3)


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_pointing_at_a_word_lights_up_where_the_model_looked(visit: Visit, service: Service, motion: str) -> None:
    card = captioned(visit(service, reduced_motion=motion))
    shown = card.locator(".frame")
    plain = np.asarray(Image.open(io.BytesIO(shown.screenshot())).convert("RGB"), np.int16)
    maps, seen = [], []
    for word in ("dog", "grass"):
        card.locator(".word", has_text=word).first.hover()
        expect(card.locator("canvas")).to_have_css("opacity", "1")
        expect(card.locator(".where")).to_contain_text(f"“{word}”")
        # A map that glides has arrived once it stays as it is.
        card.locator("canvas").evaluate(
            """async (canvas) => {
                for (let last = ""; last !== (last = canvas.toDataURL()); )
                    await new Promise((done) => setTimeout(done, 250));
            }"""
        )
        maps.append(np.array(canvas(card)))
        seen.append(np.asarray(Image.open(io.BytesIO(shown.screenshot())).convert("RGB"), np.int16))
    assert np.abs(seen[0] - plain).mean() > 10  # of 255
    assert np.abs(seen[1] - seen[0]).mean() > 2
    assert np.abs(maps[0] - maps[1]).mean() > 2
    card.locator(".name").hover()
    expect(card.locator("canvas")).to_have_css("opacity", "0")


def test_a_tap_pins_a_word_on_a_phone(visit: Visit, service: Service) -> None:
    page = visit(service, phone=True)
    expect(page.get_by_text("Take a photo")).to_be_visible()
    assert page.locator("#photograph").get_attribute("capture") == "environment"
    card = captioned(page)
    word = card.locator(".word", has_text="dog").first
    word.tap()
    expect(card.locator("canvas")).to_have_css("opacity", "1")
    expect(word).to_have_attribute("aria-pressed", "true")
    word.tap()
    expect(card.locator("canvas")).to_have_css("opacity", "0")


def test_copying_as_text_and_as_an_alt_attribute(page: Page) -> None:
    card = captioned(page)
    text = sentence(card)
    card.get_by_role("button", name="Copy text").click()
    expect(card.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == text
    card.get_by_role("button", name="Copy as alt").click()
    expect(card.locator(".copy-alt")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == f'alt="{text}"'


def test_a_picture_beyond_the_limits_is_made_smaller_first(page: Page, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2700, 2700, 3), np.uint8)
    large = tmp_path / "large.png"
    large.write_bytes(cv2.imencode(".png", noise)[1].tobytes())
    assert large.stat().st_size > 20_000_000
    expect(captioned(page, large).locator(".note")).to_contain_text("Sent as a JPEG of 2700")


def test_the_api_is_described_by_a_page_of_the_services_own(visit: Visit, service: Service) -> None:
    page = visit(service)
    page.goto(f"{service.url}/docs")
    page.get_by_text("/v1/captions", exact=True).first.click()
    expect(page.get_by_role("button", name="Try it out").first).to_be_visible()
