"""A corpus, made ready for a run: captions as token ids, pictures as arrays."""

import logging
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from captionist.data import (
    EVALUATION_SPLITS,
    CaptionFilter,
    Corpus,
    Example,
    clean_caption,
    clean_references,
    evaluation_examples,
    leave_out,
    leave_out_lines,
    open_corpus,
    open_with,
)
from captionist.errors import DataError
from captionist.model.language import encode_caption
from captionist.training.augment import may_flip
from captionist.training.batches import CaptionTable
from captionist.training.pictures import open_pixels, pictures_key, read_hashes, read_pixels
from captionist.training.recipe import DataConfig

_logger = logging.getLogger(__name__)
_FEWEST, _MOST = 10, 0.4  # pictures of which a word is said: fewer teach nothing, more are "a" and "is"
_NAMED = 20  # unreadable pictures in an error message; all are in the log
_TEXT_GROUP = 5  # captions of one packed sequence in a stage on text alone, as many as a picture of Flickr8k has


def read_examples(config: DataConfig, tokenizer: Tokenizer) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """The train examples, cleaned, without leaks and long captions, and the dev examples, untouched.

    The train examples of `data.also` stand behind those of the root, each `data.repeat` times: a picture that is there
    several times comes up several times in an epoch, at places that are shuffled apart, and augmented in other ways.
    Pictures that cannot be read are left out where they are met. Raises DataError where a corpus has no train examples
    or the root no dev, where more pictures than `data.max_unreadable` cannot be read, and as `data.open_with` does.
    """
    corpus, others = open_with(config.root, config.also, config.format)
    for each in (corpus, *others):
        if each.problems:
            _logger.warning("%d problems in %s: see `captionist data inspect`", len(each.problems), each.root)
    caption_filter = CaptionFilter(
        max_tokens=config.max_caption_tokens, count_tokens=lambda text: len(encode_caption(tokenizer, text))
    )

    def train(each: Corpus) -> tuple[Example, ...]:
        filtered = caption_filter.apply(clean_references(each.split("train"), config.lowercase))
        _logger.info("%s: %d pictures, %s", each.name, len(filtered.examples), filtered)
        return filtered.examples[: config.limit]

    own, added = train(corpus), tuple(example for each in others for example in train(each))
    if config.leak_check:
        kept = _without_leaks((*own, *added), config, (corpus, *others))
        own, added = tuple(e for e in own if e in kept), tuple(e for e in added if e in kept)
    return (*own, *added * config.repeat), corpus.split("dev")[: config.limit]


def readable(
    train: tuple[Example, ...], dev: tuple[Example, ...], resolution: int, config: DataConfig
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Those of the train and dev examples whose pictures can be decoded; what is decoded is kept in `data.cache`.

    Raises DataError where more than `data.max_unreadable` of them cannot, or none of a split can.
    """
    both = [(examples, read_pixels(examples, resolution, config.cache).unreadable) for examples in (train, dev)]
    _report([said for _, unreadable in both for said in unreadable.values()], len(train) + len(dev), config)
    kept = tuple(_without(examples, unreadable) for examples, unreadable in both)
    for name, before, after in zip(("train", "dev"), (train, dev), kept, strict=True):
        if before and not after:
            raise DataError(f"{config.root}: not one of the {len(before):,} {name} pictures can be read.")
    return kept[0], kept[1]


def _without(examples: Sequence[Example], unreadable: Container[int]) -> tuple[Example, ...]:
    return tuple(example for number, example in enumerate(examples) if number not in unreadable)


def _report(messages: Sequence[str], total: int, config: DataConfig) -> None:
    """Log what cannot be read of so many pictures. Raises DataError, naming them too, where it is too much."""
    if not messages:
        return
    for message in messages:
        _logger.warning("left out: %s", message)
    count = f"{len(messages):,} of {total:,} pictures cannot be read"
    if len(messages) > config.max_unreadable * total:
        more = f"; and {len(messages) - _NAMED:,} more, which the run's train.log names" * (len(messages) > _NAMED)
        raise DataError(
            f"{count}, which is more than data.max_unreadable={config.max_unreadable:g} allows: mend them, take them "
            f"out, or raise it. {'; '.join(messages[:_NAMED])}{more}"
        )
    _logger.warning("%s and are left out", count)


def _without_leaks(train: tuple[Example, ...], config: DataConfig, corpora: tuple[Corpus, ...]) -> set[Example]:
    """Those that are in no dev or test split, neither of these corpora nor of those in `data.exclude`.

    An evaluation picture that cannot be read is compared by its captions alone.
    """
    evaluation = _evaluation(config, corpora)
    ours, theirs = read_hashes(train, config.cache), read_hashes(evaluation, config.cache)
    messages = [*ours.unreadable.values(), *theirs.unreadable.values()]
    _report(messages, len(train) + len(evaluation), config)
    unseen = [evaluation[number] for number in theirs.unreadable]
    train, evaluation = _without(train, ours.unreadable), (*_without(evaluation, theirs.unreadable), *unseen)
    checked = leave_out(train, evaluation, ours.rows, theirs.rows)
    _logger.info("%s", checked)
    if not checked.kept:
        raise DataError(f"{config.root}: nothing is left to learn from: {checked}. See data.exclude, data.leak_check.")
    return set(checked.kept)


def _evaluation(config: DataConfig, corpora: tuple[Corpus, ...]) -> tuple[Example, ...]:
    # A feedback export may be all train; a corpus that is named to be kept out and has nothing for it is a mistake.
    own = [example for corpus in corpora for example in corpus.examples if example.split in EVALUATION_SPLITS]
    excluded = [example for root in config.exclude for example in evaluation_examples(open_corpus(root))]
    return (*own, *excluded)


def read_text(config: DataConfig) -> list[str]:
    """The captions of `data.text`, cleaned, without those of evaluation pictures.

    Raises DataError for a file that cannot be read.
    """
    if not config.text:
        return []
    lines = _text_lines(config)
    if config.leak_check:
        corpus, others = open_with(config.root, config.also, config.format)
        kept = leave_out_lines(lines, _evaluation(config, (corpus, *others)))
        dropped = len(lines) - len(kept)
        _logger.info("left out %d of %d captions of data.text: evaluation pictures have them", dropped, len(lines))
        lines = kept
    return [clean_caption(line, config.lowercase) for line in lines]


def _text_lines(config: DataConfig) -> list[str]:
    lines: list[str] = []
    for path in config.text:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as captions, one a line ({error}).") from error
        lines += [line for line in text.splitlines() if line.strip()]
    return lines


@dataclass
class TrainingData:
    """What a run reads, ready to be cut into batches."""

    config: DataConfig
    tokenizer: Tokenizer
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    resolution: int

    @cached_property
    def captions(self) -> CaptionTable:
        """Each train picture's captions."""
        return CaptionTable([[encode_caption(self.tokenizer, c) for c in e.references] for e in self.train])

    @cached_property
    def single_captions(self) -> CaptionTable:
        """Each train picture's captions, unpacked."""
        return self.captions.unpacked()

    @cached_property
    def words(self) -> Tensor:
        """int64 [W]: tokens that tell pictures apart, said of some of the train pictures, but not of most."""
        said = np.zeros(self.tokenizer.get_vocab_size())
        for example in self.train:
            said[list({t for c in example.references for t in encode_caption(self.tokenizer, c)})] += 1
        return torch.from_numpy(np.flatnonzero((said >= _FEWEST) & (said < _MOST * len(self.train))))

    @cached_property
    def flippable(self) -> Tensor:
        """bool [N]: the train pictures that may be mirrored."""
        return torch.tensor([may_flip(example.references) for example in self.train])

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """The train pictures, uint8 [N, R, R, 3]."""
        return open_pixels(self.train, self.resolution, self.config.cache)

    @cached_property
    def dev_pixels(self) -> NDArray[np.uint8]:
        """The dev pictures, uint8 [N, R, R, 3]."""
        return open_pixels(self.dev, self.resolution, self.config.cache)

    def open_pictures(self) -> None:
        """Decode train and dev pictures, where that has not been done."""
        _ = self.pixels, self.dev_pixels

    @cached_property
    def key(self) -> str:
        """Names the train pictures, for caches."""
        return pictures_key(self.train, self.resolution)

    @cached_property
    def dev_key(self) -> str:
        """Names the dev pictures, for caches."""
        return pictures_key(self.dev, self.resolution)

    @cached_property
    def text(self) -> CaptionTable:
        """The train captions and those of `data.text`, grouped as if each few were one picture's."""
        captions = [c for example in self.train for c in example.references] + read_text(self.config)
        # Neighbours describe the same picture; packed together they would make batches less varied.
        order = np.random.default_rng(0).permutation(len(captions))
        ids = [encode_caption(self.tokenizer, captions[index]) for index in order]
        short = [caption for caption in ids if len(caption) <= self.config.max_caption_tokens]
        return CaptionTable([short[i : i + _TEXT_GROUP] for i in range(0, len(short), _TEXT_GROUP)])
