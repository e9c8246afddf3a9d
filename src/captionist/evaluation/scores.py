"""All scores of a set of captions, with their uncertainty and how they were counted."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict
from rich.table import Table

from captionist.errors import ScoreError
from captionist.evaluation.bleu import bleu_of_sums, bleu_statistics
from captionist.evaluation.bootstrap import FloatArray, interval, resampled_sums
from captionist.evaluation.cider import CiderD
from captionist.evaluation.meteor import MeteorUnavailableError, meteor_scorer
from captionist.evaluation.rouge import rouge_l
from captionist.evaluation.tokenize import TOKENISATION, tokenize
from captionist.evaluation.words import Words

_NAMED_IN_ERRORS = 3
_TABLE_WIDTH = 64  # so that the lines below the table need no breaks


class Measure(BaseModel):
    """A score times 100, and the bounds of its 95 % bootstrap interval over pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    high: float


class Scores(BaseModel):
    """What `score_captions` found. Without Java, `meteor` is None and `notes` says so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bleu_1: Measure
    bleu_2: Measure
    bleu_3: Measure
    bleu_4: Measure
    meteor: Measure | None
    rouge_l: Measure
    cider: Measure
    pictures: int
    references_per_picture: float
    """The mean; references without a word are not counted."""
    tokenisation: str
    distinct_share: float
    """Distinct candidates among all, from 0 to 1, after tokenisation: near 0 if all pictures get the same sentence."""
    mean_words: float
    """Words per candidate."""
    empty_candidates: int
    """Candidates without a word; they score zero."""
    notes: list[str]
    clip_score: Measure | None = None
    ref_clip_score: Measure | None = None
    """Both are added by `matching.add_clip_scores`, if there are pictures and a model to judge them."""
    clip: str = ""
    """The CLIP that judged; if empty, the model's own alignment judged, if it has one."""

    def measures(self) -> dict[str, Measure]:
        """Return the scores there are, by their usual names, in their usual order."""
        named = {
            "BLEU-1": self.bleu_1,
            "BLEU-2": self.bleu_2,
            "BLEU-3": self.bleu_3,
            "BLEU-4": self.bleu_4,
            "METEOR": self.meteor,
            "ROUGE-L": self.rouge_l,
            "CIDEr-D": self.cider,
            "CLIPScore" if self.clip else "match score": self.clip_score,
            "RefCLIPScore" if self.clip else "match score, references": self.ref_clip_score,
        }
        return {name: measure for name, measure in named.items() if measure is not None}


def score_captions(references: Mapping[str, Sequence[str]], candidates: Mapping[str, str]) -> Scores:
    """Score one candidate sentence for each picture against the picture's references; both are keyed by picture id.

    The sentences are tokenised here (see `tokenize`). BLEU and METEOR are scores of the corpus, ROUGE-L and CIDEr-D
    means over pictures, with CIDEr-D's document frequencies from `references`. An empty candidate scores zero. The
    result does not depend on the order of the ids.

    Raises ScoreError if there are no pictures, if an id has candidates but no references or the reverse, or if a
    picture has no reference with a word in it.
    """
    reference_words, candidate_words, wordless = words_by_picture(references, candidates)
    pictures = len(candidate_words)
    notes = []
    if wordless:
        notes.append(f"{wordless} references hold no word and were left out.")
    if pictures == 1:
        notes.append("CIDEr-D is 0 for a single picture: it weighs words by how few pictures they are used for.")

    statistics = bleu_statistics(reference_words, candidate_words)
    values, samples = bleu_of_sums(statistics.sum(axis=0)), bleu_of_sums(resampled_sums(statistics))
    bleu_1, bleu_2, bleu_3, bleu_4 = map(_measure, values.tolist(), samples.T)
    try:
        meteor = _meteor(reference_words, candidate_words)
    except MeteorUnavailableError as error:
        meteor = None
        notes.append(f"METEOR is missing. {error}")

    return Scores(
        bleu_1=bleu_1,
        bleu_2=bleu_2,
        bleu_3=bleu_3,
        bleu_4=bleu_4,
        meteor=meteor,
        rouge_l=mean_measure(rouge_l(reference_words, candidate_words)),
        cider=mean_measure(CiderD(reference_words).score(candidate_words, reference_words)),
        pictures=pictures,
        references_per_picture=sum(map(len, reference_words)) / pictures,
        tokenisation=TOKENISATION,
        distinct_share=len(set(map(tuple, candidate_words))) / pictures,
        mean_words=sum(map(len, candidate_words)) / pictures,
        empty_candidates=sum(not words for words in candidate_words),
        notes=notes,
    )


def check_ids(ids: Iterable[str]) -> None:
    """Raises ScoreError if an id occurs twice: the later picture's caption would replace the earlier one's."""
    if repeated := [name for name, times in Counter(ids).items() if times > 1]:
        raise ScoreError(f"{repeated[0]!r} is the id of several examples: give each picture once, with its own id")


def cider_by_picture(references: Mapping[str, Sequence[str]], candidates: Mapping[str, str]) -> dict[str, float]:
    """Return CIDEr-D times 100 of every picture, by id; their mean is `score_captions`' figure.

    Raises ScoreError as `score_captions` does.
    """
    reference_words, candidate_words, _ = words_by_picture(references, candidates)
    values = CiderD(reference_words).score(candidate_words, reference_words)
    return {picture: 100 * float(value) for picture, value in zip(sorted(candidates), values, strict=True)}


def render(scores: Scores) -> Table:
    """Return the scores as a table for the terminal, followed by how they were counted."""
    below = [
        f"{scores.pictures:,} pictures, {scores.references_per_picture:.3g} references each",
        f"{scores.distinct_share:.1%} of the captions distinct, {scores.mean_words:.1f} words on average",
    ]
    if scores.empty_candidates:
        below.append(f"{scores.empty_candidates:,} captions without a word, scored as zero")
    below += [f"words: {scores.tokenisation}", *scores.notes]
    table = Table(caption="\n".join(below), caption_justify="left", min_width=_TABLE_WIDTH)
    table.add_column("score")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    for name, measure in scores.measures().items():
        table.add_row(name, f"{measure.value:.1f}", f"{measure.low:.1f} to {measure.high:.1f}")
    return table


def words_by_picture(
    references: Mapping[str, Sequence[str]], candidates: Mapping[str, str]
) -> tuple[list[list[Words]], list[Words], int]:
    """Return references and candidates as words, by sorted id, and how many references without words were dropped.

    Raises ScoreError as `score_captions` does.
    """
    if not references and not candidates:
        raise ScoreError("There is nothing to score: both references and candidates are empty.")
    if missing := references.keys() - candidates.keys():
        raise ScoreError(f"{_some(missing)} no candidate: caption every picture that has references, or leave it out.")
    if extra := candidates.keys() - references.keys():
        raise ScoreError(f"{_some(extra)} a candidate but no references: check that both use the same ids.")
    pictures = sorted(references)
    all_words = [[tokenize(sentence) for sentence in references[picture]] for picture in pictures]
    kept = [[words for words in group if words] for group in all_words]
    if bare := [picture for picture, group in zip(pictures, kept, strict=True) if not group]:
        raise ScoreError(f"{_some(bare)} no reference with a word in it: add one or leave the picture out.")
    wordless = sum(map(len, all_words)) - sum(map(len, kept))
    return kept, [tokenize(candidates[picture]) for picture in pictures], wordless


def _some(ids: Iterable[str]) -> str:
    """Return "2 pictures (a, b) have", ready for an error message, naming only the first few of many."""
    ordered = sorted(ids)
    names = ", ".join(ordered[:_NAMED_IN_ERRORS]) + (", ..." if len(ordered) > _NAMED_IN_ERRORS else "")
    return f"1 picture ({names}) has" if len(ordered) == 1 else f"{len(ordered):,} pictures ({names}) have"


def _meteor(references: Sequence[Sequence[Words]], candidates: Sequence[Words]) -> Measure:
    with meteor_scorer(timeout=120 + len(candidates) / 4) as scorer:
        statistics = scorer.statistics(references, candidates)
        (value,) = scorer.scores(statistics.sum(axis=0, keepdims=True))
        return _measure(float(value), scorer.scores(resampled_sums(statistics)))


def mean_measure(values: FloatArray) -> Measure:
    """Return the mean of the pictures' `values` [N] as a measure."""
    return _measure(float(np.mean(values)), resampled_sums(values[:, None])[:, 0] / len(values))


def _measure(value: float, samples: FloatArray) -> Measure:
    low, high = interval(samples)
    return Measure(value=100 * value, low=100 * low, high=100 * high)
