"""The API reference as a page: Swagger UI, from files that come with the service."""

import base64
import hashlib
import re
from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles

from captionist.server.security import CONTENT_SECURITY_POLICY

router = APIRouter(include_in_schema=False)


def files() -> StaticFiles:
    """The page's files, below /docs/."""
    return StaticFiles(directory=Path(fastapi_offline.__file__).with_name("static"))


@router.get("/docs")
async def reference() -> Response:
    """The page. Its one inline script is allowed by its hash."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Captionist API",
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="/page/icon.svg",
    )
    script = re.findall(rb"<script>(.*?)</script>", bytes(page.body), re.DOTALL)[-1]
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    allowed = f"script-src 'self' 'sha256-{digest}'"
    page.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY.replace("script-src 'self'", allowed)
    return page
