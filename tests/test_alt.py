"""captionist alt: what lacks an alternative text is found, described and filled in, and no other byte changes."""

import os
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from captionist.alt import html, markdown
from captionist.alt.documents import gather, read_document
from tests.conftest import Run
from tests.pictures import write_png
from tests.tools import command

PAGE = (
    "\ufeff<!DOCTYPE html>\r\n<title>caf\u00e9 <img src=no.png></title>\n"
    "<p>\U0001f415 <IMG src='a.png'\r\n  class=x><img src=b.png><img alt src=no.png><img src=no.png alt=''>\r"
    '<img src="/deep/c%20d.png?v=1#x"/><!-- <img src=no.png> --><script>"<img src=no.png>"</script>\r\n'
    "<textarea><img src=no.png></textarea><img role=presentation src=no.png><img src=no.png aria-hidden='true'>"
    '<img src="{{ no }}"><img :alt="t" src=no.png><img {% if x %}alt="y"{% endif %} src=no.png>\n'
    '<img src="data:image/gif;base64,R0" data-src="a.png"><picture><source srcset="no.webp"><img src=b.png></picture>'
    '<img srcset="b.png 1x, no.png 2x"><img src="https://example.org/x.png"><img src="//example.org/x.png"><img>'
)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, name in enumerate(["a.png", "b.png", "deep/c d.png"]):
        write_png(tmp_path / "site" / name, seed)
    (tmp_path / "site" / "index.html").write_bytes(PAGE.encode())
    monkeypatch.chdir(tmp_path)
    return Path("site")


def images(page: str) -> list[tuple[str | None, str | None]]:
    """Source and alternative text of each <img>, as a browser would see them."""
    found: list[tuple[str | None, str | None]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "img":
                found.append((dict(attrs).get("src"), dict(attrs).get("alt")))

    Reader().feed(page)
    return found


def test_images_without_alt_are_found_in_html() -> None:
    gaps = html.find_gaps(PAGE)
    assert [gap.urls[:1] for gap in gaps] == [
        ("a.png",), ("b.png",), ("/deep/c%20d.png?v=1#x",), ("data:image/gif;base64,R0",), ("b.png",), ("b.png",),
        ("https://example.org/x.png",), ("//example.org/x.png",), (),
    ]  # fmt: skip
    assert all(PAGE[gap.at - 4 : gap.at].lower() == "<img" for gap in gaps)


def test_a_base_is_minded() -> None:
    (gap,) = html.find_gaps('<base href="/pics/"><base href="no"><img src="a.png">')
    assert gap.urls == ("/pics/a.png",)


MARKDOWN = (
    "---\r\ntitle: '![](no.png)'\r\n---\r\n# T\u00eftle ![](a.png) #\r\n\r\n"
    "> - quote ![](b.png) `![](no.png)` ![](b.png)\r\n>   more ![](<c d.png> 'title') ![described](no.png)\r\n\r\n"
    "```\n![](no.png)\n<img src=no.png>\n```\n\n    ![](no.png)\n\n"
    "- item\n\n\t![][ref] <img src='e.png'> \\![](no.png)\n\n"
    "[ref]: d.png\n\n[![](link.png)](http://example.org)\n\n"
    "| ![](t.png) | b |\n|---|---|\n| ![](t.png) | ![](t.png) |\n\n"
    "<div>\n  <img\n src='h.png'>\n</div>\n\n> <div>\n> <img src='i.png'>\n\n<!-- ![](no.png) <img src=no.png> -->\n"
    "line\n ![](last.png)"
)


def test_images_without_a_text_are_found_in_markdown() -> None:
    gaps = markdown.find_gaps(MARKDOWN)
    assert [gap.urls[0] for gap in gaps] == [
        "a.png", "b.png", "b.png", "c%20d.png", "d.png", "e.png", "link.png", "t.png", "t.png", "t.png", "h.png",
        "i.png", "last.png",
    ]  # fmt: skip
    for gap in gaps:
        assert MARKDOWN[: gap.at].endswith("<img" if gap.attribute else "![")
    assert len({gap.at for gap in gaps}) == len(gaps)


def test_front_matter_without_an_end_is_none() -> None:
    assert len(markdown.find_gaps("---\r\n" + "![](a.png)\r\n" * 100)) == 100


def test_a_text_in_markdown_is_read_as_it_was_said(tmp_path: Path) -> None:
    text = "A [dog] *runs* `fast` <b> &amp; \\ ]("
    page = tmp_path / "a.md"
    page.write_text("See ![](a.png).\n")
    document = read_document(str(page), tmp_path)
    filled = document.filled({document.gaps[0]: text}).decode()
    (paragraph,) = [token for token in MarkdownIt("commonmark").parse(filled) if token.type == "inline"]
    image = (paragraph.children or [])[1]
    assert image.type == "image"
    assert "".join(token.content for token in image.children or []) == text


def test_a_diff_is_proposed_and_nothing_changed(run: Run, model: Path, site: Path) -> None:
    before = (site / "index.html").read_bytes()
    done = run("alt", site, "--model", model)
    assert done.code == 0
    assert done.out.startswith("--- a/site/index.html\n+++ b/site/index.html\n")
    assert done.err == (
        "9 images without alt text in 1 page: 6 described, 3 skipped (on the web, or in the page itself); "
        "--write puts the texts in\n"
    )
    assert (site / "index.html").read_bytes() == before


def test_what_is_written_is_the_diff_and_every_other_byte_stays(run: Run, model: Path, site: Path) -> None:
    texts = {
        line.split("\t")[0]: line.split("\t")[1] for line in run("caption", site, "--model", model).out.splitlines()
    }
    before = (site / "index.html").read_bytes()
    (site / "index.html").chmod(0o640)
    diff = run("alt", site, "--model", model).out
    done = run("alt", site, "--model", model, "--write")
    assert (done.code, done.out) == (0, diff)
    written = (site / "index.html").read_bytes()
    assert (site / "index.html").stat().st_mode & 0o777 == 0o640
    described = written.decode()
    for text in texts.values():
        described = described.replace(f' alt="{text}"', "")
    assert described.encode() == before
    found = dict(images(written.decode()))
    assert found["a.png"] == texts["site/a.png"]
    assert found["/deep/c%20d.png?v=1#x"] == texts["site/deep/c d.png"]
    (site / "index.html").write_bytes(before)
    patch = subprocess.run(["git", "apply", "-"], input=diff.encode(), capture_output=True)
    assert (patch.returncode, patch.stderr) == (0, b"")
    assert (site / "index.html").read_bytes() == written
    again = run("alt", site, "--model", model)
    assert (again.code, again.out) == (0, "")


def test_old_encodings_and_missing_line_ends_are_kept(model: Path, site: Path) -> None:
    page = site / "old.html"
    before = b"<meta charset=latin1>\r<p>caf\xe9 <img src=a.png>\xff"
    page.write_bytes(before)
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    diff = command("alt", page, "--model", model, env=environment, check=True).stdout
    command("alt", page, "--model", model, "--write", check=True)
    head, _, tail = page.read_bytes().partition(b' alt="')
    assert head + tail.partition(b'"')[2] == before
    written = page.read_bytes()
    page.write_bytes(before)
    subprocess.run(["git", "apply", "-"], input=diff, check=True)
    assert page.read_bytes() == written


def test_a_diff_can_be_applied_to_a_page_with_spaces_in_its_name(run: Run, model: Path, site: Path) -> None:
    page = site / "my page.md"
    page.write_text("![](a.png)\n")
    diff = run("alt", page, "--model", model).out
    subprocess.run(["git", "apply", "-"], input=diff, text=True, check=True)
    assert run("alt", page, "--model", model).out == ""


def test_pictures_that_cannot_be_read_are_a_line_each(run: Run, model: Path, site: Path) -> None:
    (site / "broken.png").write_bytes(b"")
    os.mkfifo(site / "pipe.png")
    (site / "index.html").write_text("x")
    (site / "p.md").write_text("![](gone.png)\n\n![](./gone.png)\n![](broken.png) ![](a.png) ![](pipe.png)\n")
    done = run("alt", site, "--model", model, "--write")
    assert done.code == 1
    errors = done.err.splitlines()
    assert [line.split(": ")[0] for line in errors[:-1]] == ["site/p.md:4", "site/p.md:1", "site/p.md:4"]
    assert "pipe.png" in errors[0]
    assert errors[-1] == "5 images without alt text in 2 pages: 1 described, 4 failed"
    assert (site / "p.md").read_text().count("![](") == 4


def test_a_picture_is_described_once(site: Path) -> None:
    (site / "index.html").write_text("<img src=a.png>\n<img src='./a.png'>\n<img src=/a.png>\n")
    ((picture,), elsewhere) = gather([read_document("site/index.html", site)])
    assert (len(picture.uses), picture.place, elsewhere) == (3, "site/index.html:1", 0)


def test_root_says_where_a_site_begins(run: Run, model: Path, site: Path) -> None:
    page = site / "deep" / "p.html"
    page.write_text('<img src="/a.png"><img src="../b.png">')
    assert run("alt", page, "--model", model).code == 1
    assert run("alt", page, "--model", model, "--root", site).code == 0
    assert run("alt", site, "--model", model).code == 0


def test_pages_that_cannot_be_read_stop_nothing(run: Run, model: Path, site: Path) -> None:
    (site / "wide.html").write_bytes("<img src=a.png>".encode("utf-16"))
    done = run("alt", site, "gone.html", site / "a.png", "-", "--model", model)
    assert done.code == 1
    names = [line.split(": ")[0] for line in done.err.splitlines()[:-1]]
    assert names == ["-", "site/wide.html", "gone.html", "site/a.png"]
    assert done.out.count("+++ b/site/index.html") == 1
    empty = run("alt", site / "deep", "--model", model)
    assert (empty.code, empty.out) == (1, "")
    assert "the folder holds no pages of HTML or Markdown" in empty.err


def test_unsure_texts_are_left_out(run: Run, model: Path, site: Path) -> None:
    done = run("alt", site, "--model", model, "--min-confidence", 1)
    assert (done.code, done.out) == (0, "")
    assert "0 described, 6 left out as unsure, 3 skipped" in done.err


def test_a_page_that_changed_meanwhile_is_left_alone(site: Path) -> None:
    document = read_document("site/index.html", site)
    filled = document.filled({document.gaps[0]: "A dog."})
    (site / "index.html").write_text("edited")
    with pytest.raises(Exception, match="changed while"):
        document.replace(filled)
    assert (site / "index.html").read_text() == "edited"
