"""The documents as a site: built without a warning, and whole in itself."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_site_is_built_without_a_warning_and_asks_nobody_else(tmp_path: Path) -> None:
    """mkdocs ends with an error for a link that leads nowhere, a missing heading or a page that no menu has."""
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        html = page.read_text(encoding="utf-8")
        asked = re.findall(r'<(?:script|img|iframe|source)[^>]+src="(?:https?:)?//[^"]*"', html)
        asked += re.findall(r'<link[^>]+rel="(?:stylesheet|preconnect|icon)"[^>]+href="(?:https?:)?//[^"]*"', html)
        assert not asked, (page.name, asked)
    api = (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
    assert all(
        name in api
        for name in (
            "caption_many",
            "ImageLimits",
            "allow_urls",
            "SearchOptions",
            "CorruptImageError",
            "IndexedPicture",
        )
    )
