"""What the tests do with the page again and again."""

from pathlib import Path

from playwright.sync_api import Locator, Page, expect

EXAMPLES = Path(__file__).parents[2] / "examples"
FAILURES = EXAMPLES.parent / "docs" / "failures"
DOG = EXAMPLES / "dog.jpg"


def choose(page: Page, *pictures: Path) -> None:
    page.set_input_files("#choose", [str(picture) for picture in pictures])


def captioned(page: Page, picture: Path = DOG) -> Locator:
    """The card of a picture that was chosen and captioned."""
    choose(page, picture)
    card = page.locator(".card").first
    expect(card.locator(".result")).to_be_visible()
    return card


def sentence(card: Locator) -> str:
    """What the card says, without the text that only screen readers get."""
    return " ".join(word.inner_text() for word in card.locator(".word").all())


def canvas(card: Locator) -> list[int]:
    """The heat map's pixels."""
    pixels: list[int] = card.locator("canvas").evaluate(
        "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"
    )
    return pixels
