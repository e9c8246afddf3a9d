"""The bodies that the service reads and writes."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, field_validator

from captionist.options import meaning

MOST_BEAMS_SERVED = 50
"""The most that clients may ask for, since they do not pay for beams."""


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def fields_of(model: type[BaseModel]) -> dict[str, Any]:
    """A model's fields as JSON schemas for a form or a query, where what is not given is left out, not null."""
    fields: dict[str, Any] = model.model_json_schema()["properties"]
    for field in fields.values():
        if "anyOf" in field:
            field.update(next(choice for choice in field.pop("anyOf") if choice["type"] != "null"))
            del field["default"]
    return fields


_PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
_ID = ".eJwVjksOwiAUAK9CWNOG.jZpIOmM3bvYUqRcxDgUDIEwCP1wPpV-_j_bHh8ZxtQo"


def _address(value: object) -> object:
    if isinstance(value, str) and value[:5].lower() == "data:":
        raise ValueError("a data: URI belongs in data")
    return value.strip() if isinstance(value, str) else value


class CaptionOptions(_Input):
    """How pictures are described; what is left out is the model's own."""

    num_captions: int | None = Field(None, **meaning("num_captions", le=MOST_BEAMS_SERVED))
    num_beams: int | None = Field(None, **meaning("num_beams", le=MOST_BEAMS_SERVED))
    retrieved: int | None = Field(None, **meaning("retrieved"))
    max_words: int | None = Field(None, **meaning("max_words"))
    explain: bool = Field(False, description="show where the model looked for each word")
    min_confidence: float = Field(0.0, ge=0, le=1, description="leave out captions below this")

    @field_validator("num_captions", "num_beams", "retrieved", "max_words", mode="before")
    @classmethod
    def _whole(cls, value: object) -> object:
        """As in JSON Schema, 5.0 is an integer, too."""
        return int(value) if isinstance(value, float) and value.is_integer() else value


class PictureInput(_Input):
    """A picture in JSON: either `data` or `url`."""

    data: str | None = Field(None, description="base64, or a data: URI", examples=[_PNG])
    url: Annotated[str, StringConstraints(max_length=2048), BeforeValidator(_address)] | None = Field(
        None, description="http(s) URL, if the operator allows URLs", examples=["https://example.org/dog.jpg"]
    )


class CaptionRequest(CaptionOptions):
    """Pictures to describe, as JSON."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"pictures": [{"data": _PNG}], "num_captions": 2}]})

    pictures: tuple[PictureInput, ...] = Field(min_length=1)


class ProblemDocument(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="stable: identifies the kind of error")
    title: str
    status: int
    detail: str = Field(description="what is wrong and what to do")
    instance: str | None = Field(None, description="the request's id, as in the log and in X-Request-ID")
    errors: list[dict[str, str]] | None = Field(None, description="field and message of each wrong field")


class Word(BaseModel):
    """A word of a caption, and where the model looked for it."""

    word: str
    weights: list[list[float]] = Field(
        description="rows x columns over the whole picture, 0 to 1: how much more than usual it looked there"
    )


class CaptionOutput(BaseModel):
    """A sentence about a picture."""

    text: str
    log_probability: float = Field(description="natural logarithm of the model's probability of it")
    confidence: float = Field(description="estimated chance that a person would accept it")
    words: list[Word] | None = Field(None, description="with explain")


class PictureOutput(BaseModel):
    """The result for one picture."""

    id: str | None = Field(description="identifies these captions in feedback; null if there are none")
    captions: list[CaptionOutput] = Field(description="best first; empty if all are below min_confidence")
    problem: ProblemDocument | None = Field(None, description="why it could not be described")


class ModelName(BaseModel):
    """Which model."""

    name: str
    version: str


class Milliseconds(BaseModel):
    """Where the time went; for several pictures, the slowest of them."""

    decode: float
    queue: float
    encode: float
    generate: float
    total: float


class CaptionResponse(BaseModel):
    """Captions, in the order of the pictures."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": {"name": "captionist-small", "version": "1"},
                    "pictures": [
                        {
                            "id": _ID,
                            "captions": [
                                {"text": "A dog runs.", "log_probability": -6.1, "confidence": 0.52, "words": None}
                            ],
                            "problem": None,
                        }
                    ],
                    "milliseconds": {"decode": 3.1, "queue": 0.4, "encode": 20.0, "generate": 60.0, "total": 85.0},
                }
            ]
        }
    )

    model: ModelName
    pictures: list[PictureOutput]
    milliseconds: Milliseconds


class ModelInfo(ModelName):
    """A model that is served."""

    precision: str
    default: bool


class Limits(BaseModel):
    """What a request may ask for."""

    max_picture_bytes: int
    max_picture_pixels: int
    max_pictures: int
    max_captions: int
    max_beams: int


class ModelsResponse(BaseModel):
    """What this service offers."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "models": [{"name": "captionist-small", "version": "1", "precision": "int8", "default": True}],
                    "limits": {
                        "max_picture_bytes": 20_000_000,
                        "max_picture_pixels": 50_000_000,
                        "max_pictures": 16,
                        "max_captions": 50,
                        "max_beams": 50,
                    },
                    "pictures_kept": False,
                }
            ]
        }
    )

    models: list[ModelInfo]
    limits: Limits
    pictures_kept: bool = Field(description="whether feedback may come with its picture, for training")


# No control characters except tabs and line ends: PostgreSQL, for example, cannot store a null byte in text.
_Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=500, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"),
]


class FeedbackRequest(_Input):
    """What a person thinks of a picture's first caption."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"caption_id": _ID, "rating": "bad", "correction": "A dog sleeps on a sofa."},
                {"caption_id": _ID, "rating": "good"},
            ]
        }
    )

    caption_id: str = Field(max_length=4096, description="as /v1/captions gave it")
    rating: Literal["good", "bad"]
    correction: Annotated[_Text, StringConstraints(min_length=1)] | None = Field(
        None, description="a better caption", examples=["A dog sleeps on a sofa."]
    )
    comment: _Text | None = None
    consent: bool = Field(False, description="the picture sent with this may be kept for training")


class FeedbackResponse(BaseModel):
    """The receipt: what is acknowledged is stored."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "0c2f9a5e-1c53-4d0e-9b0e-6f1f0a3c5b7d", "picture_kept": False}]}
    )

    id: str = Field(description="deletes this feedback and its picture: DELETE /v1/feedback/{id}")
    picture_kept: bool
