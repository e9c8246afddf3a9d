"""Caption ids that carry what they name, signed.

Feedback must know the caption that it is about. Keeping every caption in a database would make captioning depend on
it; instead the id itself holds the caption and a digest of the picture, and any replica with the same secret can read
it, a restart later too.
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
        """An opaque, URL-safe string of some 300 characters."""
        token = self._serializer.dumps(list(asdict(record).values()))
        return token if isinstance(token, str) else token.decode("ascii")

    def read(self, caption_id: str) -> CaptionRecord | None:
        """What the id tells; None if it was not made with this secret."""
        try:
            return CaptionRecord(*self._serializer.loads(caption_id))
        except (BadData, TypeError, ValueError):
            return None
