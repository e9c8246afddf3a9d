"""GET /v1/models."""

from fastapi import APIRouter

from captionist.server.problems import responses
from captionist.server.schemas import MOST_BEAMS_SERVED, Limits, ModelInfo, ModelsResponse
from captionist.server.service import ClientDep, ServiceDep

router = APIRouter(tags=["models"])


@router.get(
    "/v1/models",
    summary="What this service offers",
    response_description="Models and limits",
    responses=responses("unauthorized", "rate-limited", "internal"),
)
async def list_models(service: ServiceDep, client: ClientDep) -> ModelsResponse:  # noqa: ARG001
    """The model that describes pictures, what a request may ask for, and whether pictures may be given for training."""
    config, settings = service.captioner.bundle.config, service.settings
    return ModelsResponse(
        models=[ModelInfo(name=config.name, version=config.version, precision=config.precision, default=True)],
        limits=Limits(
            max_picture_bytes=settings.max_picture_bytes,
            max_picture_pixels=settings.max_picture_pixels,
            max_pictures=settings.max_pictures,
            max_captions=MOST_BEAMS_SERVED,
            max_beams=MOST_BEAMS_SERVED,
        ),
        pictures_kept=settings.keep_pictures,
    )
