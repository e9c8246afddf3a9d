"""Small corpora of real pictures for the tests of the readers."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from captionist.data import Corpus
from tests.pictures import write_png

PICTURE = None
"""A patchwork picture, no two alike."""
Files = Mapping[str, str | bytes | None]
"""What is in each file of a corpus, or PICTURE; a name that ends in / is a folder."""


def write_files(root: Path, files: Files) -> None:
    for seed, (name, content) in enumerate(files.items()):
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        elif content is None:
            write_png(path, seed)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


def pictures(folder: str, *names: str) -> dict[str, str | bytes | None]:
    return {f"{folder}/{name}": PICTURE for name in names}


def problems(corpus: Corpus) -> set[tuple[str, str]]:
    """Kind and subject of each problem, none of them twice."""
    found: set[tuple[str, str]] = {(problem.kind, problem.subject) for problem in corpus.problems}
    assert len(found) == len(corpus.problems)
    return found


def splits(corpus: Corpus) -> dict[str, str]:
    """Each example's split."""
    return {example.id: example.split for example in corpus.examples}


# --- Caption files ----------------------------------------------------------------------------------------------------

FLICKR30K_HEADER = "image_name| comment_number| comment\n"


def tokens(*names: str, captions: int = 2) -> str:
    """Rows as Flickr8k and Flickr30k came out."""
    return "".join(f"{name}#{i}\tA dog number {i} .\n" for name in names for i in range(captions))


def entry(name: str, split: str, *captions: str) -> dict[str, Any]:
    """A picture as Karpathy's files have it."""
    sentences = [{"tokens": text.lower().split(), "raw": text, "imgid": 0, "sentid": 0} for text in captions]
    return {"sentids": [0], "imgid": 0, "sentences": sentences, "split": split, "filename": name}


def karpathy(*images: Any) -> str:
    return json.dumps({"images": images, "dataset": "flickr30k"})


def coco(images: Mapping[int, str], captions: Iterable[tuple[int, str]], more: Any = (), others: Any = ()) -> str:
    """A caption file of COCO's; more: images, others: annotations, as they are to stand there."""
    listed = [{"license": 3, "id": number, "file_name": name, "height": 48} for number, name in images.items()]
    told = [{"image_id": number, "id": place, "caption": text} for place, (number, text) in enumerate(captions)]
    return json.dumps({"info": {"year": 2017}, "images": [*listed, *more], "annotations": [*told, *others]})


def metadata(*entries: Any) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)
