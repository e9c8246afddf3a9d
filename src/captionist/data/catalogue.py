"""Corpora that can be downloaded: addresses, lengths, checksums, conditions, and what to unpack where.

None of these publishers gives checksums. Those here are what public projects pin for the same addresses. For COCO,
checksums and lengths agree in many unrelated projects; for Flickr8k, in two (an R package of torch datasets, and a
CMake build); Karpathy's were found only in that R package. None was compared with a download of our own. What was not
found is None; then the server's length and the archive's own CRCs must do.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """One zip file of a corpus."""

    url: str
    size: int | None
    """Its exact length in bytes, if publicly known."""
    checksum: str | None
    """`sha256:` or `md5:` and hexadecimal digits, if publicly known."""
    unpacked_about: int
    """Bytes that the unpacked files take, rounded up. An archive with more than four times as much is refused."""
    download_about: int = 0
    """Bytes to make room for if `size` is unknown; rounded up."""
    folder: str = "."
    """Where its files go, below the corpus's directory."""
    members: tuple[str, ...] = ("*",)
    """Patterns (fnmatch) of the files to unpack; the rest stays packed."""

    @property
    def name(self) -> str:
        """The archive's file name."""
        return urlsplit(self.url).path.rsplit("/", 1)[-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What a corpus is downloaded from."""

    archives: tuple[Archive, ...]
    licence: str
    """The conditions that a user must first accept, in words for a person."""
    afterwards: str = ""
    """What is left for the user to do, if the archives are not the whole corpus."""


_FLICKR = (
    "The photographs are from Flickr and belong to those who took them. Use must abide by Flickr's terms\n"
    "(https://www.flickr.com/help/terms)."
)

SOURCES: dict[str, Source] = {
    "flickr8k": Source(
        licence=(
            "Flickr8k (Hodosh, Young and Hockenmaier 2013), collected at the University of Illinois.\n"
            f"{_FLICKR} The corpus is provided for non-commercial research and education only.\n"
            "It is downloaded from a third party's public copy, as the university no longer serves it."
        ),
        archives=(
            Archive(
                url="https://github.com/jbrownlee/Datasets/releases/download/Flickr8k/Flickr8k_text.zip",
                size=None,
                checksum="md5:bf6c1abcb8e4a833b7f922104de18627",
                download_about=3_000_000,
                unpacked_about=15_000_000,
                folder="Flickr8k_text",
            ),
            Archive(
                url="https://github.com/jbrownlee/Datasets/releases/download/Flickr8k/Flickr8k_Dataset.zip",
                size=None,
                checksum="md5:f18a1e2920de5bd84dae7cf08ec78978",
                download_about=1_200_000_000,
                unpacked_about=1_200_000_000,
            ),
        ),
    ),
    "flickr30k": Source(
        licence=(
            "Flickr30k (Young, Lai, Hodosh and Hockenmaier 2014), collected at the University of Illinois.\n"
            f"{_FLICKR} The corpus is provided for non-commercial research and education only.\n"
            "Only Andrej Karpathy's captions and split are downloaded; the photographs are available on request."
        ),
        archives=(
            Archive(
                # Users reported 404 here in September 2023; later projects still name this address, and no other.
                url="https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
                size=None,
                checksum="md5:4fa8c08369d22fe16e41dc124bd1adc2",
                download_about=50_000_000,
                unpacked_about=60_000_000,
                members=("dataset_flickr30k.json",),
            ),
        ),
        # There are copies of the photographs on the web. None that was found has the authors' permission.
        afterwards=(
            "The photographs are not here: ask for them at https://forms.illinois.edu/sec/229675 and unpack them as "
            "flickr30k-images/ beside dataset_flickr30k.json."
        ),
    ),
    "coco2017": Source(
        licence=(
            "COCO 2017 (Lin et al. 2014), by the COCO Consortium (https://cocodataset.org/#termsofuse).\n"
            "The annotations are under CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/).\n"
            f"{_FLICKR}"
        ),
        # By http, as in the publisher's links: users report that the https name has another host's certificate. The
        # SHA-256 vouches for the bytes.
        archives=(
            Archive(
                url="http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
                size=252_907_541,
                checksum="sha256:113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
                unpacked_about=150_000_000,
                members=("annotations/captions_*.json",),  # the rest is for other tasks
            ),
            Archive(
                url="http://images.cocodataset.org/zips/val2017.zip",
                size=815_585_330,
                checksum="sha256:4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
                unpacked_about=850_000_000,
            ),
            Archive(
                url="http://images.cocodataset.org/zips/train2017.zip",
                size=19_336_861_798,
                checksum="sha256:69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
                unpacked_about=20_000_000_000,
            ),
        ),
    ),
}


def through(mirror: str | None, url: str) -> str:
    """The address, with the mirror's scheme and host (and path prefix, if it has one).

    Raises:
        ValueError: the mirror is not an http or https address with a host and nothing after its path.
    """
    if mirror is None:
        return url
    parts = urlsplit(mirror)
    plain = not (parts.query or parts.fragment or parts.username) and mirror.isprintable() and " " not in mirror
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise ValueError(f"{mirror!r} is not an address such as https://mirror.example or http://localhost:8080/copies")
    _ = parts.port  # raises ValueError if it is not a number
    return mirror.rstrip("/") + urlsplit(url).path
