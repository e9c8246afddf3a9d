"""Reads and cleans what a recipe's `data` and `validation` name, and prepares it for a run."""

import logging
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

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
    difference_hash,
    evaluation_examples,
    leave_out,
    leave_out_lines,
    open_corpus,
    open_with,
)
from captionist.errors import DataError, ImageError
from captionist.images import ImageFile
from captionist.model.language import encode_caption
from captionist.training.annotations import Annotation
from captionist.training.cache import open_record, pictures_key
from captionist.training.groups import find_groups
from captionist.training.pictures import PictureSet
from captionist.training.recipe import DataConfig, DevConfig
from captionist.training.sources import PictureSource, Source, TextSource
from captionist.training.stage import ROOT, TEXT
from captionist.training.teacher import Teacher

_logger = logging.getLogger(__name__)
# Bounds on the pictures whose captions have a word: rarer ones teach nothing, commoner ones are "a" and "is".
_FEWEST, _MOST = 10, 0.4
_NAMED = 20  # unreadable pictures in an error message; all are in the log
_TEXT_GROUP = 5  # captions packed into one sequence of the source `text`, as many as Flickr8k has per picture

Split = Mapping[str, tuple[Example, ...]]
"""Pictures by source, or by dev corpus."""


class Corpora:
    """The corpora and texts of a recipe, opened; nothing of dev and test reaches the training data."""

    def __init__(self, config: DataConfig, dev: Mapping[str, DevConfig] | None = None) -> None:
        """dev: the corpora that score the run; None: the root. Raises DataError as `data.open_with` does."""
        self.config, self._dev_configs = config, dev or {}
        self._root, self._also = open_with(config.root, config.also, config.format)
        self._others = {
            name: _named(open_corpus(source.corpus, source.format), name)
            for name, source in config.sources.items()
            if source.corpus
        }
        self._dev = {name: open_corpus(each.corpus, each.format) for name, each in self._dev_configs.items()}
        for corpus in (self._root, *self._also, *self._others.values(), *self._dev.values()):
            if corpus.problems:
                _logger.warning("%d problems in %s: see `captionist data inspect`", len(corpus.problems), corpus.root)

    def dev(self) -> dict[str, tuple[Example, ...]]:
        """The dev examples, untouched. Raises DataError for a corpus that has none."""
        limit = self.config.limit
        if not self._dev:
            return {ROOT: self._root.split("dev")[:limit]}
        return {
            name: corpus.split("dev")[:limit][: self._dev_configs[name].limit] for name, corpus in self._dev.items()
        }

    def train(self, tokenizer: Tokenizer) -> dict[str, tuple[Example, ...]]:
        """The train examples by source, cleaned, without leaks and long captions.

        Those of `data.also` come after those of the root, each `data.repeat` times: such a picture comes up several
        times in an epoch, shuffled apart, and augmented differently. Pictures that cannot be read are left out where
        they turn up. Raises DataError if a corpus has no train examples or none is left, or if more than
        `data.max_unreadable` pictures cannot be read.
        """
        own, added = self._read(self._root, tokenizer), [e for each in self._also for e in self._read(each, tokenizer)]
        found = {ROOT: (*own, *added)}
        for name, corpus in self._others.items():
            found[name] = self._read(corpus, tokenizer)[: self.config.sources[name].limit]
        if self.config.leak_check:
            found = self._without_leaks(found)
            kept = set(found[ROOT])
            own, added = tuple(e for e in own if e in kept), [e for e in added if e in kept]
        return found | {ROOT: (*own, *added * self.config.repeat)}

    def text(self, name: str = TEXT) -> list[str]:
        """The captions of a source without pictures, cleaned, without those of evaluation pictures.

        Raises DataError for a file that cannot be read, or if no caption is left.
        """
        files = self.config.text if name == TEXT else self.config.sources[name].text
        lines = _lines(files)[: None if name == TEXT else self.config.sources[name].limit]
        if lines and self.config.leak_check:
            kept = leave_out_lines(lines, self._evaluation)
            dropped = len(lines) - len(kept)
            where = "data.text" if name == TEXT else name
            _logger.info("left out %d of %d captions of %s: evaluation pictures have them", dropped, len(lines), where)
            lines = kept
        if name != TEXT and not lines:
            raise DataError(f"data.sources.{name}: no caption to learn from is left in {', '.join(map(str, files))}.")
        return [clean_caption(line, self.config.lowercase) for line in lines]

    def _read(self, corpus: Corpus, tokenizer: Tokenizer) -> tuple[Example, ...]:
        config = self.config
        caption_filter = CaptionFilter(
            max_tokens=config.max_caption_tokens, count_tokens=lambda text: len(encode_caption(tokenizer, text))
        )
        filtered = caption_filter.apply(clean_references(corpus.split("train"), config.lowercase))
        _logger.info("%s: %d pictures, %s", corpus.name, len(filtered.examples), filtered)
        return filtered.examples[: config.limit]

    def _without_leaks(self, train: Split) -> dict[str, tuple[Example, ...]]:
        """The examples that are in no dev or test split, whether of these corpora or of those in `data.exclude`.

        An evaluation picture that cannot be read is compared by its captions alone.
        """
        cache, evaluation = self.config.cache, self._evaluation
        ours, theirs = {name: _hash(some, cache) for name, some in train.items()}, _hash(evaluation, cache)
        messages = [said for pictures in (*ours.values(), theirs) for said in pictures.unreadable.values()]
        _report(messages, sum(map(len, train.values())) + len(evaluation), self.config)
        unseen = [evaluation[number] for number in theirs.unreadable]
        evaluation, kept = (*_without(evaluation, theirs.unreadable), *unseen), {}
        for name, examples in train.items():
            some = _without(examples, ours[name].unreadable)
            checked = leave_out(some, evaluation, ours[name].hashes, theirs.hashes)
            _logger.info("%s", checked)
            if not checked.kept:
                root = self.config.root if name == ROOT else self._others[name].root
                raise DataError(f"{root}: nothing is left to learn from: {checked}. See data.exclude, data.leak_check.")
            kept[name] = checked.kept
        return kept

    @cached_property
    def _evaluation(self) -> tuple[Example, ...]:
        # A feedback export may be all train; but a corpus that is named to be kept out and has nothing to keep out is a
        # mistake.
        corpora = (self._root, *self._also, *self._others.values(), *self._dev.values())
        own = [example for corpus in corpora for example in corpus.examples if example.split in EVALUATION_SPLITS]
        excluded = [example for root in self.config.exclude for example in evaluation_examples(open_corpus(root))]
        return tuple({example.image: example for example in (*own, *excluded)}.values())


class _Hashes(NamedTuple):
    """What N pictures look like: the `difference_hash` of each of the M that can be read, uint64 [M], in order; and
    what is wrong with the others, by their numbers.
    """

    hashes: NDArray[np.uint64]
    unreadable: dict[int, str]


def _hash(examples: Sequence[Example], cache: Path) -> _Hashes:
    """Each picture is read only once, and the hash kept. Raises TrainingError if it cannot be kept."""

    def read(picture: ImageFile) -> int | str:
        try:
            return difference_hash(picture)
        except ImageError as error:
            return str(error)

    path = cache / f"hashes-{pictures_key(examples, 64)}.json"
    found = open_record(path, lambda: [read(example.image) for example in examples])
    hashes = np.array([each for each in found if isinstance(each, int)], np.uint64)
    return _Hashes(hashes, {number: each for number, each in enumerate(found) if isinstance(each, str)})


def _named(corpus: Corpus, name: str) -> Corpus:
    return replace(corpus, name=name, examples=tuple(replace(e, id=f"{name}/{e.id}") for e in corpus.examples))


def readable(
    train: Split, dev: Split, resolution: int, config: DataConfig
) -> tuple[dict[str, tuple[Example, ...]], dict[str, tuple[Example, ...]]]:
    """The train and dev examples whose pictures can be decoded.

    Raises DataError if more than `data.max_unreadable` of them all cannot be, or none of a source or dev corpus can.
    """
    sets = {("train", name): PictureSet(examples, resolution, config) for name, examples in train.items()}
    sets |= {("dev", name): PictureSet(examples, resolution, _few(config)) for name, examples in dev.items()}
    unreadable = {key: pictures.unreadable() for key, pictures in sets.items()}
    messages = [said for some in unreadable.values() for said in some.values()]
    _report(messages, sum(map(len, sets.values())), config)
    kept = {key: _without(pictures.examples, unreadable[key]) for key, pictures in sets.items()}
    for (split, name), pictures in sets.items():
        if pictures.examples and not kept[split, name]:
            where = config.root if name == ROOT else name
            raise DataError(f"{where}: none of the {len(pictures):,} {split} pictures can be read.")
    return {name: kept["train", name] for name in train}, {name: kept["dev", name] for name in dev}


def _few(config: DataConfig) -> DataConfig:
    """For dev pictures, which are few and are read again and again."""
    return config.model_copy(update={"decode": "ahead"})


def _without(examples: Sequence[Example], unreadable: Container[int]) -> tuple[Example, ...]:
    return tuple(example for number, example in enumerate(examples) if number not in unreadable)


def _report(messages: Sequence[str], total: int, config: DataConfig) -> None:
    """Log the pictures that cannot be read. Raises DataError, which also names them, if there are too many."""
    if not messages:
        return
    for message in messages:
        _logger.warning("left out: %s", message)
    count = f"{len(messages):,} of {total:,} pictures cannot be read"
    if len(messages) > config.max_unreadable * total:
        more = f"; and {len(messages) - _NAMED:,} more, which the run's train.log names" * (len(messages) > _NAMED)
        raise DataError(
            f"{count}, which is more than data.max_unreadable={config.max_unreadable:g} allows: repair them, remove "
            f"them, or raise it. {'; '.join(messages[:_NAMED])}{more}"
        )
    _logger.warning("%s and are left out", count)


def _lines(files: Iterable[Path]) -> list[str]:
    lines: list[str] = []
    for path in files:
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
    train: Mapping[str, tuple[Example, ...]]
    """The train pictures, by source."""
    dev: Mapping[str, tuple[Example, ...]]
    resolution: int
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Captions without pictures, by source."""
    annotations: Sequence[Annotation] = ()

    @cached_property
    def sources(self) -> dict[str, Source]:
        """All that stages can draw from."""
        found: dict[str, Source] = {}
        for name, examples in self.train.items():
            pictures = PictureSet(examples, self.resolution, self.config, self.annotations)
            found[name] = PictureSource(name, pictures, self.tokenizer, self._weight(name))
        if self.texts:
            self._teach([source.pictures for source in found.values() if isinstance(source, PictureSource)])
        for name, captions in self.texts.items():
            own = [caption for example in self.train[ROOT] for caption in example.references] if name == TEXT else []
            found[name] = TextSource(
                name,
                [*own, *captions],
                self.tokenizer,
                self.config.max_caption_tokens,
                self._weight(name),
                _TEXT_GROUP if name == TEXT else 1,
                self.annotations,
                self._groups(name, captions),
            )
        return found

    def _teach(self, pictures: Sequence[PictureSet]) -> None:
        """Let the annotations learn from pictures, before they simulate."""
        examples = [example for some in pictures for example in some.examples]
        for annotation in self.annotations:
            annotation.learn(examples, np.concatenate([some.annotated[annotation.name] for some in pictures]))

    def _groups(self, name: str, captions: Sequence[str]) -> list[list[int]] | None:
        """Which captions of a text source seem to be about the same picture; None if the recipe does not ask."""
        source = self.config.sources.get(name)
        if source is None or source.group == 1:
            return None
        assert self.config.teacher is not None  # the recipe has been checked
        vectors = Teacher(self.config.teacher, self.config.cache, {}).read(captions)
        return find_groups(vectors, source.near, source.group)

    def teacher(self, sources: Iterable[str]) -> Teacher:
        """A teacher that reads these sources' captions. Raises RecipeError if there is no such teacher."""
        assert self.config.teacher is not None  # the recipe has been checked
        references = {name: self.sources[name].references for name in sources}
        return Teacher(self.config.teacher, self.config.cache, references)

    def _weight(self, name: str) -> float:
        return self.config.sources[name].weight if name in self.config.sources else 1.0

    @cached_property
    def dev_pictures(self) -> dict[str, PictureSet]:
        """The dev pictures, by corpus."""
        config = _few(self.config)
        return {
            name: PictureSet(examples, self.resolution, config, self.annotations) for name, examples in self.dev.items()
        }

    @cached_property
    def words(self) -> Tensor:
        """int64 [W]: tokens that tell pictures apart: some train pictures' captions have them, but not most."""
        said, pictures = np.zeros(self.tokenizer.get_vocab_size()), [e for some in self.train.values() for e in some]
        for example in pictures:
            said[list({t for c in example.references for t in encode_caption(self.tokenizer, c)})] += 1
        return torch.from_numpy(np.flatnonzero((said >= _FEWEST) & (said < _MOST * len(pictures))))
