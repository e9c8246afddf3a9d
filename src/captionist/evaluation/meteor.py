"""METEOR by pycocoevalcap's Java program, in a process that always ends."""

import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.meteor.meteor import Meteor

from captionist.errors import ScoreError
from captionist.evaluation.words import Words, require_words

# Columns of the program's statistics.
_CANDIDATE_LENGTH, _REFERENCE_LENGTH, _CHUNKS, _CANDIDATE_MATCHES, _REFERENCE_MATCHES = 0, 1, 20, 21, 22


class MeteorUnavailableError(ScoreError):
    """METEOR cannot be computed on this machine; the message says why. The other scores are not affected."""


class MeteorScorer:
    """METEOR 1.5 (Denkowski and Lavie 2014) for English, through a running process; see `meteor_scorer`."""

    def __init__(self, process: Meteor) -> None:
        self._process = process

    def statistics(self, references: Sequence[Sequence[Words]], candidates: Sequence[Words]) -> NDArray[np.float64]:
        """Return METEOR's sufficient statistics of every picture, [N, 23]; a corpus's are their sum.

        Shapes and errors are those of `bleu.bleu`.
        """
        require_words(references, candidates)
        rows = []
        for group, candidate in zip(references, candidates, strict=True):
            line = self._process._stat(_line(candidate), [_line(words) for words in group])
            rows.append([float(figure) for figure in line.split()])
        statistics = np.array(rows)
        # METEOR counts the one chunk of a sentence that matches from end to end as none, since it has no fragments,
        # when it adds up pictures. Doing that here makes the score of a sum exactly METEOR's score of those pictures.
        whole = (
            (statistics[:, _CHUNKS] == 1)
            & (statistics[:, _CANDIDATE_MATCHES] == statistics[:, _CANDIDATE_LENGTH])
            & (statistics[:, _REFERENCE_MATCHES] == statistics[:, _REFERENCE_LENGTH])
        )
        statistics[whole, _CHUNKS] = 0
        return statistics

    def scores(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the corpus score, from 0 to 1, of every row of `sums` [R, 23] of `statistics`, float64 [R]."""
        values = []
        pipe = self._process.meteor_p
        for row in sums:
            pipe.stdin.write(f"EVAL ||| {' '.join(str(figure) for figure in row)}\n".encode())
            pipe.stdin.flush()
            pipe.stdout.readline()  # the segment's score; the corpus score that follows is the same for one segment
            values.append(float(pipe.stdout.readline()))
        return np.array(values)


@contextmanager
def meteor_scorer(timeout: float) -> Iterator[MeteorScorer]:
    """Start METEOR, yield a MeteorScorer, and end the Java process in every case, after `timeout` seconds at the
    latest.

    Starting takes a few seconds, a thousand pictures with five references about ten.

    Raises MeteorUnavailableError if there is no Java, or if the process dies, answers nonsense or runs out of time.
    """
    if shutil.which("java") is None:
        raise MeteorUnavailableError("METEOR needs Java, and there is no java on the PATH.")
    process = Meteor()
    watchdog = threading.Timer(timeout, process.meteor_p.kill)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield MeteorScorer(process)
    except (OSError, ValueError, IndexError) as error:  # a closed pipe, or a line other than the numbers expected
        raise MeteorUnavailableError(f"METEOR's Java process failed or did not end in {timeout:g} s.") from error
    finally:
        watchdog.cancel()
        process.meteor_p.kill()
        process.meteor_p.wait()
        for pipe in (process.meteor_p.stdin, process.meteor_p.stdout, process.meteor_p.stderr):
            with suppress(OSError):  # what could not be written to a dead process
                pipe.close()


def _line(words: Words) -> str:
    return " ".join(words).replace("|||", "")  # the program's separator
