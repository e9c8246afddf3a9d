"""captionist match, captionist index, captionist search."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captionist.commands.limits import MaxBytesOption, MaxPixelsOption, ProviderOption, image_limits, open_captioner
from captionist.commands.terminal import (
    ModelOption,
    escape,
    own_errors_only,
    print_error,
    print_json,
    print_line,
    progress,
    read_stdin,
    writable,
)
from captionist.errors import ImageIndexError
from captionist.paths import absolute, exists

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from captionist.captioner import Captioner
    from captionist.sources import Source

_INDEX = Path("captionist-index.npz")

JsonLines = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def match(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A picture, or - for standard input.")],
    sentences: Annotated[list[str], typer.Argument(metavar="SENTENCE", help="A sentence that may describe it.")],
    model: ModelOption = None,
    as_json: JsonLines = False,
    max_bytes: MaxBytesOption = None,
    max_pixels: MaxPixelsOption = None,
    provider: ProviderOption = None,
) -> None:
    """Say how well sentences fit a picture: prints the cosine, a tab and the sentence, best first.

    With several sentences, it also prints the probability of each among them, between the two.
    """
    import numpy as np

    limits = image_limits(max_bytes, max_pixels)
    captioner = open_captioner(model, limits, provider)
    _embed(captioner, sentences)
    with own_errors_only():
        cosines = captioner.match(read_stdin(limits) if image == "-" else image, [*map(_text, sentences)])
    alignment = captioner.bundle.config.alignment
    assert alignment is not None
    weights = np.exp(alignment.scale * (cosines - cosines.max()))
    probabilities = weights / weights.sum()
    for place in np.argsort(-cosines, kind="stable").tolist():
        cosine, probability = float(cosines[place]), float(probabilities[place]) if len(sentences) > 1 else None
        if as_json:
            print_json(sentence=sentences[place], cosine=cosine, probability=probability)
        else:
            columns = [f"{number:.4f}" for number in (cosine, probability) if number is not None]
            print_line(sys.stdout, "\t".join([*columns, escape(sentences[place])]))


def index(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Pictures, folders, globs.")],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", callback=writable, help="The index to write or update."),
    ] = _INDEX,
    model: ModelOption = None,
    max_bytes: MaxBytesOption = None,
    max_pixels: MaxPixelsOption = None,
    provider: ProviderOption = None,
) -> None:
    """Make an index of pictures, for `captionist search`.

    The index then holds the pictures that the paths lead to, and nothing else; if there is no picture, nothing is
    written. If the index exists and belongs to the same model, only new and changed pictures are read. After Ctrl-C,
    what was read so far is kept. A file that cannot be read gives one line on standard error and exit code 1; the
    others are still indexed.
    """
    from captionist.sources import find_sources

    if not os.access(out.parent, os.W_OK):  # needed even to replace an index that is itself writable
        raise ImageIndexError(f"{out} cannot be written (the folder is read-only): name another file with --out")
    found = find_sources(paths, "an index holds paths: save standard input to a file, and name that")
    for name, message in found.errors:
        print_error(name, message, as_json=False)
    failures = len(found.errors)
    if sources := [source for source in found.sources if absolute(source.name) != absolute(out)]:
        captioner = open_captioner(model, image_limits(max_bytes, max_pixels), provider)
        failures += _bring_up_to_date(out, captioner, sources)
    else:
        _nothing_to_index(out)
        failures += 1
    raise typer.Exit(1 if failures else 0)


def search(
    sentence: Annotated[str, typer.Argument(metavar="SENTENCE", help="What to look for, in English.")],
    index_file: Annotated[
        Path, typer.Option("--index", metavar="FILE", help="What `captionist index` wrote.")
    ] = _INDEX,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="How many pictures to print.")] = 10,
    model: ModelOption = None,
    as_json: JsonLines = False,
) -> None:
    """Find the pictures in an index that fit a sentence: prints the cosine, a tab and the path, best first.

    Paths are those that `captionist index` was given, printed as `captionist caption` prints them.
    """
    from captionist.captioner import Captioner
    from captionist.index import ImageIndex

    index = ImageIndex.load(index_file)
    captioner = Captioner(model)
    (query,) = _embed(captioner, [sentence])
    if index.model != captioner.bundle.fingerprint or index.embeddings.shape[1:] != query.shape:
        raise ImageIndexError(
            f"{index_file} was made with another model than {captioner.bundle.path}: choose that one with --model, or "
            "build the index again"
        )
    for path, cosine in index.search(query, top):
        if as_json:
            print_json(path=path, cosine=cosine)
        else:
            print_line(sys.stdout, f"{cosine:.4f}\t{escape(path)}")


def _bring_up_to_date(out: Path, captioner: "Captioner", sources: "Sequence[Source]") -> int:
    """Write the index of these pictures; returns how many cannot be read."""
    from captionist.images import reason
    from captionist.index import ImageIndex, IndexedPicture, Stamp
    from captionist.inference.sharing import paired

    fingerprint = captioner.bundle.fingerprint
    stamps = {source.name: Stamp.of(source.name) for source in sources}
    pictures: dict[str, IndexedPicture] = {}
    if exists(out):
        known = ImageIndex.load(out)
        if known.model == fingerprint:
            pictures = {one.path: one for one in known if one.stamp and one.stamp == stamps.get(one.path)}
    fresh = [source for source in sources if source.name not in pictures]
    failures = 0
    results = captioner.embed_many(source.image for source in fresh)
    try:
        with own_errors_only(), progress("indexing", len(fresh)) as advance:
            for source, result in paired(fresh, results):
                if result.error is not None:
                    failures += 1
                    print_error(source.name, reason(result.error, source.image), as_json=False)
                if result.embedding is not None:
                    pictures[source.name] = IndexedPicture(source.name, result.embedding, stamps[source.name])
                advance()
    finally:  # also after Ctrl-C: what was read need not be read again
        if pictures:
            ImageIndex.build(fingerprint, pictures.values()).save(out)
    if pictures:
        print_line(sys.stdout, escape(f"{out}: {len(pictures)} pictures, {len(fresh) - failures} of them read now"))
    else:
        _nothing_to_index(out)
    return failures


def _nothing_to_index(out: Path) -> None:
    """Say that there is nothing to index; the old index is kept, since the empty paths may be a mistake."""
    left = "; the old index is kept" if exists(out) else ""
    print_error(str(out), f"not written: there is no picture to index{left}", as_json=False)


def _embed(captioner: "Captioner", sentences: "Sequence[str]") -> "NDArray[np.float32]":
    """Sentences as unit vectors, float32 [S, E]. Raises typer.BadParameter for one in which the model knows no word."""
    embedded = captioner.sentence_embeddings([*map(_text, sentences)])
    for sentence, vector in zip(sentences, embedded, strict=True):
        if not vector.any():
            raise typer.BadParameter(f"the sentence {sentence!r} has no word that the model knows")
    return embedded


def _text(argument: str) -> str:
    """An argument as text; in an ASCII-only locale, it arrived as bytes. Raises typer.BadParameter."""
    try:
        return argument if argument.isprintable() else os.fsencode(argument).decode("utf-8")
    except UnicodeError as error:
        raise typer.BadParameter(f"{argument!r} is not UTF-8 text") from error
