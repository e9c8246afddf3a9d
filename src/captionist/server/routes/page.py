"""The page, and the files it needs."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

PAGE = Path(__file__).parents[1] / "page"
router = APIRouter(include_in_schema=False)


@router.get("/")
async def index() -> FileResponse:
    """The page."""
    return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})


class PageFiles(StaticFiles):
    """The page's files. Browsers ask whether they have changed, so that an upgrade shows at once."""

    def __init__(self) -> None:
        super().__init__(directory=PAGE)

    def file_response(self, *args: object, **kwargs: object) -> "FileResponse":
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response  # type: ignore[return-value]
