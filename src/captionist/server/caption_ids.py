"""Caption ids that contain what they name, signed.

Feedback must identify its caption. If every caption were kept in a database, captioning would depend on that database.
Instead, the id itself holds the caption and a digest of the picture, and any replica with the same secret can read it,
even after a restart.
"""

import hashlib
from dataclasses import asdict, dataclass

from itsdangerous import BadData, URLSafeSerializer


@dataclass(frozen=True, slots=True)
class CaptionRecord:
    """The content of an id."""

    model: str
    version: str
    text: str
    log_probability: float
    confidence: float
    picture_sha256: str
    nonce: str
    """Distinguishes captions of the same picture."""


class CaptionIds:
    """Makes and reads ids."""

    def __init__(self, secret: str) -> None:
        self._serializer = URLSafeSerializer(
            secret, salt="captionist.caption", signer_kwargs={"digest_method": hashlib.sha256}
        )

    def make(self, record: CaptionRecord) -> str:
        """An opaque, URL-safe string of about 300 characters."""
        token = self._serializer.dumps(list(asdict(record).values()))
        return token if isinstance(token, str) else token.decode("ascii")

    def read(self, caption_id: str) -> CaptionRecord | None:
        """The id's content; None if it was not made with this secret."""
        try:
            return CaptionRecord(*self._serializer.loads(caption_id))
        except (BadData, TypeError, ValueError):
            return None
