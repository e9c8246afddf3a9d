"""Every error that Captionist raises on purpose. The message says what is wrong and what to do next."""


class CaptionistError(Exception):
    """The root: catch this to catch everything below."""


class ImageError(CaptionistError):
    """A picture that cannot be captioned. One bad picture never stops the others."""


class ImageNotFoundError(ImageError):
    """The path does not exist, is a directory, or cannot be read."""


class EmptyImageError(ImageError):
    """The file or the byte string has no bytes at all."""


class NotAnImageError(ImageError):
    """The bytes are not a picture: text, a document, random data."""


class UnsupportedImageError(ImageError):
    """A picture, but in a format that Captionist does not support."""


class CorruptImageError(ImageError):
    """A picture in a known format whose bytes are damaged or cut short."""


class ImageTooLargeError(ImageError):
    """More bytes or more pixels than the limits allow; found from the header, before decoding."""


class ImageFetchError(ImageError):
    """A URL that is not fetched: refused, unreachable, or not a picture."""


class FailedImageError(ImageError):
    """Captioning one picture of many failed, perhaps not because of the picture; `__cause__` is what was raised.

    The other pictures still get their captions."""


class DataError(CaptionistError):
    """A corpus that cannot be used: wrong layout, nothing left after the filters."""


class CollectionError(CaptionistError):
    """A collection of pictures that cannot be listed, or a table of its captions that cannot be read or written."""


class BundleError(CaptionistError):
    """A model bundle that is missing, incomplete, altered or in an unknown format."""


class ImageIndexError(CaptionistError):
    """An index of pictures that is missing, damaged or made with another model, or that cannot be written."""


class SidecarError(CaptionistError):
    """An XMP sidecar that cannot be read, or of a kind that nothing can be added to."""


class DocumentError(CaptionistError):
    """A page of HTML or Markdown that cannot be read."""


class RecipeError(CaptionistError):
    """A training recipe with an unknown key, a wrong value or a missing file."""


class TrainingError(CaptionistError):
    """A training run that cannot continue, for example because the loss is not finite."""


class ScoreError(CaptionistError):
    """References and candidates that cannot be scored against each other."""


class SettingsError(CaptionistError):
    """A setting of the service that is unknown, has a wrong value or cannot be used."""


class MissingExtraError(CaptionistError):
    """A feature whose optional dependencies are not installed; the message names the extra."""
