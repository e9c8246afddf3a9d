"""The splits that folders are named after, and the split for corpora that come without one."""

import hashlib

SPLIT_FOLDERS = {"train": "train", "test": "test"} | dict.fromkeys(("validation", "valid", "val", "dev"), "dev")
"""Names that people give to folders, and ours."""
HASH_SPLIT_ORIGIN = "80/10/10 by a hash of the file name (the corpus has no split files)"


def split_by_name(name: str) -> str:
    """Assign a picture to "train" (80 %), "dev" (10 %) or "test" (10 %) by its file name alone.

    A picture's captions are near-copies of one another, so splitting caption rows would put most of the test references
    into training. Here a picture goes to one split with all its captions, and neither the order of the rows nor other
    pictures can move it: a corpus may grow without leaking.
    """
    bucket = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 10
    return "train" if bucket < 8 else "dev" if bucket == 8 else "test"
