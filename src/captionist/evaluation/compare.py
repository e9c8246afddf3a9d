"""Is a new bundle better than the old one? Both caption the same pictures, and a gate decides.

The paired bootstrap (Koehn 2004, "Statistical significance tests for machine translation evaluation", section 4):
pictures are drawn with replacement, both bundles are scored on the same draw, and the interval is that of the
difference. How hard the pictures are affects both scores and cancels out, so that small differences show, which two
separate intervals would hide.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from rich.table import Table

from captionist.captioner import Captioner
from captionist.data import Corpus, Example
from captionist.errors import DataError, ScoreError
from captionist.evaluation.bleu import bleu_of_sums, bleu_statistics
from captionist.evaluation.bootstrap import RESAMPLES, FloatArray, interval, resampled_sums
from captionist.evaluation.cider import CiderD
from captionist.evaluation.evaluate import caption_examples, first_of
from captionist.evaluation.rouge import rouge_l
from captionist.evaluation.scores import words_by_picture
from captionist.evaluation.tokenize import tokenize
from captionist.evaluation.words import Words

MARGIN = 1.0
"""In CIDEr-D times 100: the most that a new bundle may lose on dev."""
FEWEST_CORRECTIONS = 20
"""With fewer pictures a bootstrap says nothing: with two, both may be better by chance, in every resample."""
_HELD_OUT = ("dev", "test")


@dataclass(frozen=True)
class Difference:
    """A score of two bundles, and the new one's gain with its 95 % interval; all times 100."""

    old: float
    new: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two bundles on the same pictures.

    captions: what the old and the new bundle said, by picture id. failures: an error message for each picture that one
    of them could not read; such a picture is in no score.
    """

    cider: Difference
    bleu_4: Difference
    rouge_l: Difference
    captions: dict[str, tuple[str, str]]
    failures: tuple[str, ...] = ()

    @property
    def pictures(self) -> int:
        """How many were scored."""
        return len(self.captions)

    def differences(self) -> dict[str, Difference]:
        """The scores by their usual names."""
        return {"CIDEr-D": self.cider, "BLEU-4": self.bleu_4, "ROUGE-L": self.rouge_l}


@dataclass(frozen=True)
class Verdict:
    """What the gate says, and why: "promote", or "not worse" if there were no corrections to ask about; else "keep"."""

    word: Literal["promote", "not worse", "keep"]
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.word}: {'; '.join(self.reasons)}"


def held_out(corrections: Corpus) -> tuple[Example, ...]:
    """The pictures of a feedback export that `captionist train` does not learn from: its dev and test splits.

    Raises DataError if there are none.
    """
    chosen = tuple(example for example in corrections.examples if example.split in _HELD_OUT)
    if not chosen:
        raise DataError(
            f"{corrections.root}: none of its {len(corrections.examples):,} pictures is held out from training, so it "
            "cannot show whether a model is better. One picture in five is held out, by its name: collect more "
            "corrections."
        )
    return chosen


def compare(
    examples: Sequence[Example],
    old: Captioner,
    new: Captioner,
    advance: Callable[[], None] = lambda: None,
    among: Sequence[Example] = (),
) -> Comparison:
    """Caption every example with both bundles, each by its own search, and compare their scores.

    advance: called after each picture of each bundle; among: see `compare_captions`, where these examples' references
    count. Raises ScoreError if there is no picture that both could read, or two have the same id.
    """
    (old_said, old_failures), (new_said, new_failures) = (
        caption_examples(examples, captioner, advance) for captioner in (old, new)
    )
    failures = old_failures | new_failures
    references = {example.id: example.references for example in examples if example.id not in failures}
    if not references:
        raise ScoreError(f"there is no picture to compare on{first_of(failures)}")
    theirs, ours = ({picture: said[picture].text for picture in references} for said in (old_said, new_said))
    others = [example.references for example in among]
    return compare_captions(references, theirs, ours, tuple(failures.values()), others)


def compare_captions(
    references: Mapping[str, Sequence[str]],
    old: Mapping[str, str],
    new: Mapping[str, str],
    failures: tuple[str, ...] = (),
    among: Sequence[Sequence[str]] = (),
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare two sets of captions by the paired bootstrap over pictures; all are keyed by picture id.

    For every resample, BLEU is computed again for each set, from the sums of its pictures' counts. CIDEr-D and ROUGE-L
    are means over pictures. CIDEr-D's document frequencies come from all `references` and those in `among`: if
    corrections of one kind stood alone, the very words that they share would count as worthless. Raises ScoreError as
    `scores.score_captions` does.
    """
    words, old_words, _ = words_by_picture(references, old)
    _, new_words, _ = words_by_picture(references, new)
    both = (old_words, new_words)
    others = [[said for text in group if (said := tokenize(text))] for group in among]
    scorer = CiderD([*words, *filter(None, others)])
    return Comparison(
        cider=_mean_difference([scorer.score(said, words) for said in both], resamples),
        bleu_4=_bleu_difference(words, both, resamples),
        rouge_l=_mean_difference([rouge_l(words, said) for said in both], resamples),
        captions={picture: (old[picture], new[picture]) for picture in sorted(references)},
        failures=failures,
    )


def gate(dev: Comparison, corrections: Comparison | None = None, margin: float = MARGIN) -> Verdict:
    """Decide whether a new bundle may take the old one's place.

    "promote": the lower end of the difference in CIDEr-D is above -margin on dev, and above 0 on the corrections. "not
    worse": the former, and there are no corrections. "keep": otherwise.
    """
    low, not_worse = dev.cider.low, dev.cider.low > -margin
    reasons = [f"CIDEr-D changes by {low:+.1f} at worst, {_above(not_worse)} the margin of {-margin:+.1f}"]
    if corrections is None:
        return Verdict("not worse" if not_worse else "keep", tuple(reasons))
    low, better = corrections.cider.low, corrections.cider.low > 0
    reasons.append(f"on the corrections by {low:+.1f} at worst, {_above(better)} 0")
    few = corrections.pictures < FEWEST_CORRECTIONS
    if few:
        reasons.append(
            f"only {corrections.pictures} corrected pictures are held out, and {FEWEST_CORRECTIONS} are needed to tell"
        )
    return Verdict("promote" if not_worse and better and not few else "keep", tuple(reasons))


def _above(is_above: bool) -> str:
    return "above" if is_above else "not above"


def render(comparison: Comparison, title: str) -> Table:
    """The comparison as a table for the terminal."""
    table = Table(
        title=title, title_justify="left", caption=f"{comparison.pictures:,} pictures", caption_justify="left"
    )
    for number, column in enumerate(("score", "old", "new", "difference", "95 % interval")):
        table.add_column(column, justify="right" if number else "left")
    for name, d in comparison.differences().items():
        table.add_row(name, f"{d.old:.1f}", f"{d.new:.1f}", f"{d.difference:+.1f}", f"{d.low:+.1f} to {d.high:+.1f}")
    return table


def to_json(setting: dict[str, Any], dev: Comparison, corrections: Comparison | None, verdict: Verdict) -> str:
    """The setting (which bundles, on what, with which margin), both comparisons and the verdict, as JSON."""
    parts = {"dev": dev, "corrections": corrections}
    compared = {name: part and {"pictures": part.pictures} | asdict(part) for name, part in parts.items()}
    return json.dumps(setting | compared | {"verdict": asdict(verdict)}, indent=2) + "\n"


def _mean_difference(values: Sequence[FloatArray], resamples: int) -> Difference:
    """Between the means of both bundles' values, [N] each. Both have the same draws, so the differences are drawn."""
    old, new = values
    gains = new - old
    samples = resampled_sums(gains[:, None], resamples)[:, 0] / len(gains)
    return _difference(float(old.mean()), float(new.mean()), samples)


def _bleu_difference(
    references: Sequence[Sequence[Words]], candidates: tuple[Sequence[Words], Sequence[Words]], resamples: int
) -> Difference:
    statistics = np.hstack([bleu_statistics(references, said) for said in candidates])
    width = statistics.shape[1] // 2

    def bleu_4(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
        return bleu_of_sums(sums[..., :width])[..., 3], bleu_of_sums(sums[..., width:])[..., 3]

    old, new = bleu_4(statistics.sum(axis=0))
    old_samples, new_samples = bleu_4(resampled_sums(statistics, resamples))
    return _difference(float(old), float(new), new_samples - old_samples)


def _difference(old: float, new: float, samples: FloatArray) -> Difference:
    low, high = interval(samples)
    return Difference(100 * old, 100 * new, 100 * (new - old), 100 * low, 100 * high)
