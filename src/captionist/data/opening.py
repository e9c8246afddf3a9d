"""Opens every picture of a corpus, which readers do not; what cannot be read is left out, as in training."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from captionist import images
from captionist.data.records import Corpus, Example, Problem
from captionist.errors import DataError, ImageError


def open_all(corpus: Corpus, advance: Callable[[], None] = lambda: None) -> tuple[Corpus, tuple[str, ...]]:
    """The corpus without the examples whose pictures cannot be read, which become problems; and all error messages.

    advance: called after each picture. Raises DataError if no picture can be read.
    """
    examples, problems, messages = [], list(corpus.problems), []
    pool = ThreadPoolExecutor(thread_name_prefix="captionist-open")
    try:
        for example, error in zip(corpus.examples, pool.map(_error, corpus.examples), strict=True):
            advance()
            if error is None:
                examples.append(example)
            else:
                told = f"{images.reason(error, example.image)}; split: {example.split}"
                problems.append(Problem("unreadable_picture", example.id, told))
                messages.append(str(error))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits only for pictures being opened
    if not examples:
        count = f"none of its {len(messages):,} pictures can be read"
        raise DataError(f"{corpus.root}: {count}; the first: {messages[0]}")
    return replace(corpus, examples=tuple(examples), problems=tuple(problems)), tuple(messages)


def _error(example: Example) -> ImageError | None:
    try:
        images.decode(example.image)
    except ImageError as error:
        return error
    return None
