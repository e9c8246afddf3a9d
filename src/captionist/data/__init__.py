"""Corpora: pictures with the captions that people wrote for them, read, split, filtered and counted."""

from captionist.data.filters import CaptionFilter, FilterResult, clean_caption, clean_references
from captionist.data.inspect import inspect_corpus
from captionist.data.leakage import EVALUATION_SPLITS, difference_hash, evaluation_examples, leave_out, leave_out_lines
from captionist.data.mixing import open_with
from captionist.data.opening import open_all
from captionist.data.readers import open_corpus
from captionist.data.records import Corpus, Example, Problem

__all__ = [
    "EVALUATION_SPLITS",
    "CaptionFilter",
    "Corpus",
    "Example",
    "FilterResult",
    "Problem",
    "clean_caption",
    "clean_references",
    "difference_hash",
    "evaluation_examples",
    "inspect_corpus",
    "leave_out",
    "leave_out_lines",
    "open_all",
    "open_corpus",
    "open_with",
]
