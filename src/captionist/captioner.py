"""Pictures in, captions out."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from traceback import clear_frames
from typing import NoReturn, Self, TypeVar, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from captionist import images
from captionist.bundle import TOKENIZER, Bundle
from captionist.captions import Caption, CaptionResult, EmbeddingResult
from captionist.errors import (
    BundleError,
    FailedImageError,
    ImageError,
    ImageFetchError,
    MissingExtraError,
    NotAnImageError,
)
from captionist.images import ImageInput, ImageLimits
from captionist.inference.bank import Bank, read_bank
from captionist.inference.candidates import Candidates
from captionist.inference.choice import Chooser, Gatherer
from captionist.inference.class_words import ClassWords
from captionist.inference.constraints import Constraints
from captionist.inference.decoder import Decoder, Step
from captionist.inference.encoding import Encoding, Prepared
from captionist.inference.engine import Engine, OrtAlignment
from captionist.inference.ranker import Ranker, read_ranker
from captionist.inference.search import NOT_LEARNT, Choose, Hypothesis, SearchOptions, SearchOverrides, search
from captionist.inference.sharing import each_or_error, share_out
from captionist.inference.threads import available_cores
from captionist.inference.tokenizer import CaptionTokenizer
from captionist.wording import Wording

R = TypeVar("R")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:")
_SHOWN = 320
"""The longer side, in pixels, of the picture that is kept beside its caption."""


class Captioner:
    """A loaded model.

    Safe to use from several threads at once; in a coroutine, `await asyncio.to_thread(captioner.caption, picture)`.

    When it is pickled, its bundle is opened again at the other end. A forked process must load its own.
    """

    def __init__(
        self,
        model: str | Path | Bundle | None = None,
        *,
        threads: int | None = None,
        limits: ImageLimits | None = None,
        providers: Sequence[str] = (),
        allow_urls: bool = False,
    ) -> None:
        """Load a model.

        Args:
            model: a bundle, its directory, or the name of one inside the package; None is the embedded model.
            threads: by default the cores that this process really has; one picture's arithmetic is split over them, and
                many pictures are shared out among them.
            limits: the largest picture that is accepted.
            providers: what ONNX Runtime should compute on where it can: cuda, openvino, coreml, directml and so on;
                what they cannot do is done on the CPU.
            allow_urls: a picture may be an http(s) URL of the public internet; needs the extra `serve`.

        Raises:
            BundleError: there is no such model, or it cannot be used.
            ValueError: threads below 1, or a provider that is not available.
        """
        for wrong, name, right in (
            (threads is not None and not isinstance(threads, int), "threads", "a whole number"),
            (limits is not None and not isinstance(limits, ImageLimits), "limits", "ImageLimits"),
            (isinstance(providers, str), "providers", "a list of names"),
            (not isinstance(allow_urls, bool), "allow_urls", "True or False"),
        ):
            if wrong:
                raise TypeError(f"{name} must be {right}")
        options = {"threads": threads, "limits": limits, "providers": tuple(providers), "allow_urls": allow_urls}
        self._again = partial(Captioner, model, **options)  # type: ignore[arg-type]
        self._providers, self._allow_urls = providers, allow_urls
        self.bundle = model if isinstance(model, Bundle) else Bundle.open(model)
        config = self.bundle.config
        self.tokenizer = CaptionTokenizer(self.bundle.path / TOKENIZER)
        if len(self.tokenizer) != config.vocabulary_size:
            raise BundleError(
                f"{self.bundle.path}: {TOKENIZER} has {len(self.tokenizer)} tokens, but the graphs have "
                f"{config.vocabulary_size}: export the model again"
            )
        self._wording = Wording(config, self.tokenizer)
        self.defaults = config.search
        self._preprocessing = images.Preprocessing(
            size=(config.image.height, config.image.width),
            mean=config.image.mean,
            std=config.image.std,
            resampling=config.image.resampling,
            resized=config.image.resized,
        )
        self._threads = available_cores() if threads is None else threads
        self._engine = Engine(self.bundle, self._threads, providers)
        self.limits = limits or ImageLimits()
        classes = config.detector.classes if config.detector else ()
        self._class_words = ClassWords(classes)
        self._bank: Bank | None = None
        self._ranker: Ranker | None = None
        if config.bank is not None and config.alignment is not None:
            self._bank = read_bank(self.bundle.path, config.bank, config.alignment.width, len(classes))
            self._ranker = read_ranker(self.bundle.path) if config.bank.ranked else None

    @cached_property
    def _side_by_side(self) -> Engine:
        """The engine on which several threads each run their own batch, which is faster than one batch on all cores."""
        return self._engine if self._threads == 1 else Engine(self.bundle, 1, self._providers)

    def __reduce__(self) -> tuple[Callable[[], "Captioner"], tuple[()]]:
        return self._again, ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model's memory. Using the captioner afterwards raises ValueError."""
        self.__dict__.pop("_side_by_side", None)
        self._engine = cast("Engine", _Closed())

    def options(self, **changes: Unpack[SearchOverrides]) -> SearchOptions:
        """The model's own settings of a search, with some changed. Raises ValueError if one is wrong for it."""
        options = self.defaults.override(**changes)
        if options.retrieved and self._ranker is None:
            raise ValueError(NOT_LEARNT)
        return options

    def caption(self, image: ImageInput, **options: Unpack[SearchOverrides]) -> Caption:
        """Describe one picture. options: see `SearchOptions`; those not given are the model's own.

        Raises ImageError if it cannot be read, ValueError for wrong options, TypeError for anything but an
        `ImageInput`.
        """
        search_options = self.options(**options)
        if isinstance(image, list | tuple):
            raise TypeError("caption takes one picture: pass several to caption_many")
        rgb = self._decode(image)
        caption = self.generate(self.encode([self._prepare(rgb)]), search_options)[0]
        return replace(caption, picture=images.thumbnail(rgb, _SHOWN))

    def caption_many(
        self, images: Iterable[ImageInput], batch_size: int = 8, **options: Unpack[SearchOverrides]
    ) -> Iterator[CaptionResult]:
        """Describe many pictures, in their order and as they come; every picture has its own result. One that cannot be
        read, or on which captioning fails, yields its error.

        Each of the captioner's threads works on its own batch, so as many batches are read before the first result;
        an array must not change until its own result has come. Raises at once ValueError for wrong options and
        TypeError for a single picture.
        """
        search_options = self.options(**options)
        results = self._many(
            images,
            search_options.fitting(batch_size),
            lambda engine, encoding: self._generate(engine, encoding, search_options),
        )
        return (CaptionResult(*result) for result in results)

    def embed_many(self, images: Iterable[ImageInput], batch_size: int = 8) -> Iterator[EmbeddingResult]:
        """Many pictures as unit vectors, to be compared with those of sentences; otherwise like `caption_many`.

        Raises at once BundleError if the model has no alignment.
        """
        alignment = self._alignment
        results = self._many(images, batch_size, lambda _, encoding: list(alignment.images(encoding)))
        return (EmbeddingResult(*result) for result in results)

    def _many(
        self,
        sources: Iterable[ImageInput],
        batch_size: int,
        finish: Callable[[Engine, Encoding], list[R]],
    ) -> Iterator[tuple[ImageInput, R | None, ImageError | None]]:
        """Each source, with what `finish` makes of its encoding or with its error."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, but it is {batch_size}")
        self._engine.decoder  # noqa: B018  # raises where it was closed
        if images.is_one(sources):
            raise TypeError(
                f"this is one picture ({images.label(sources)}): pass it to caption, or pass a list of pictures"
            )

        def work(engine: Engine, batch: list[ImageInput]) -> list[tuple[ImageInput, R | None, ImageError | None]]:
            read = [self._read(source) for source in batch]
            good = [prepared for prepared in read if not isinstance(prepared, Exception)]
            made = iter(each_or_error(lambda some: finish(engine, engine.encode(some)), good))
            became = [one if isinstance(one, Exception) else next(made) for one in read]
            return [
                (source, None, _told(one, source)) if isinstance(one, Exception) else (source, one, None)
                for source, one in zip(batch, became, strict=True)
            ]

        def worker(alone: bool) -> Callable[[list[ImageInput]], list[tuple[ImageInput, R | None, ImageError | None]]]:
            return partial(work, self._engine if alone else self._side_by_side)

        return share_out(iter(sources), batch_size, self._threads, worker)

    def _read(self, source: ImageInput) -> Prepared | Exception:
        try:
            return self.prepare(source)
        except TypeError as error:
            return NotAnImageError(f"{images.label(source)}: {error}")
        except Exception as error:
            return error

    def prepare(self, image: ImageInput, name: str | None = None) -> Prepared:
        """The first of three steps to a caption: a picture as the model reads it.

        name: what error messages call it; by default its path. Raises ImageError if it cannot be read, TypeError for
        anything but an `ImageInput`.
        """
        return self._prepare(self._decode(image, name))

    def _decode(self, image: ImageInput, name: str | None = None) -> NDArray[np.uint8]:
        """The picture, uint8 [H, W, 3], no larger than needed."""
        if isinstance(image, str) and _URL.match(image):
            return self._decode(self._fetch(image), name or image)
        # Twice the model's size, so that our own averaging does the last step. Imported models want theirs of all
        # pixels.
        enough = 2 * max(self._preprocessing.size) if self._preprocessing.resampling == "area" else None
        if enough is not None and self.bundle.config.detector is not None:
            enough = max(enough, images.SCENE_SIDE)
        return images.decode(image, limits=self.limits, name=name, at_least=enough)

    def _fetch(self, url: str) -> bytes:
        if not self._allow_urls:
            raise ImageFetchError(
                f"{url}: this is a URL: download the picture, or allow URLs with Captioner(allow_urls=True)"
            )
        try:
            from captionist.fetch import fetch
        except ImportError as error:
            raise MissingExtraError('fetching pictures needs `pip install "captionist[serve]"`') from error
        try:
            return fetch(url, self.limits.max_bytes)
        except ImageError as error:
            raise type(error)(f"{url}: {error}") from error

    def _prepare(self, rgb: NDArray[np.uint8]) -> Prepared:
        scene = None
        if self.bundle.config.detector is not None:
            scene = images.squeeze(rgb, images.scene_shape(*rgb.shape[:2]))
        return Prepared(images.prepare(rgb, self._preprocessing), scene)

    @property
    def decoder(self) -> Decoder:
        """The language model alone, for your own search; its `prefill` takes `Encoding.visual_tokens`."""
        return self._engine.decoder

    def encode(self, pictures: Sequence[Prepared]) -> Encoding:
        """The second step: what the model sees in B prepared pictures, at least one."""
        return self._engine.encode(pictures)

    def generate(self, encoding: Encoding, options: SearchOptions) -> list[Caption]:
        """The last step: a caption for each of B encoded pictures, in their order."""
        return self._generate(self._engine, encoding, options)

    def image_embeddings(self, encoding: Encoding) -> NDArray[np.float32]:
        """Pictures as unit vectors, to be compared with those of sentences: float32 [B, E].

        Raises BundleError if the model has no alignment.
        """
        return self._alignment.images(encoding)

    def sentence_embeddings(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """S sentences as unit vectors, float32 [S, E]; zeros for one without a word. Raises BundleError as above."""
        texts = [text.lower() if self.bundle.config.lowercase else text for text in map(str.strip, sentences)]
        ids = [self.tokenizer.encode(f" {text.rstrip(' .')}") if any(map(str.isalnum, text)) else [] for text in texts]
        return self._alignment.sentences(ids)

    def match(self, image: ImageInput, sentences: Sequence[str]) -> NDArray[np.float32]:
        """How well each of S sentences fits the picture: cosines, float32 [S].

        Raises ImageError if it cannot be read, BundleError if the model has no alignment, TypeError for one sentence
        instead of several, ValueError for none.
        """
        if isinstance(sentences, str):
            raise TypeError("match takes a list of sentences: pass a list")
        if not sentences:
            raise ValueError("there is no sentence to compare: pass at least one")
        embedded = self.sentence_embeddings(sentences)
        cosines: NDArray[np.float32] = embedded @ self.image_embeddings(self.encode([self.prepare(image)]))[0]
        return cosines

    @property
    def _alignment(self) -> OrtAlignment:
        if self._engine.alignment is None:
            raise BundleError(
                f"{self.bundle.path} was not trained to compare pictures with sentences: use a model whose config.json "
                "has an alignment, or train one with a contrastive stage"
            )
        return self._engine.alignment

    def candidates(self, encoding: Encoding, options: SearchOptions) -> list[Candidates]:
        """Everything that competes for each of B encoded pictures: all that the search finds, and sentences about other
        pictures.

        Raises BundleError if the model has no sentences.
        """
        if self._bank is None:
            raise BundleError(
                f"{self.bundle.path} has no sentences that could compete: use a model whose config.json has a bank"
            )
        gather, found = self._gatherer(self._engine), list[Candidates]()

        def keep(first: Step, written: list[list[Hypothesis]], constraints: Constraints) -> list[list[Hypothesis]]:
            found.extend(gather(encoding, options.retrieved, first, written, constraints))
            return written

        self._search(self._engine, encoding, options, keep)
        return found

    def hypotheses(self, encoding: Encoding, options: SearchOptions) -> list[list[Hypothesis]]:
        """The captions that the search finds for each of B encoded pictures, best first."""
        return self._search(self._engine, encoding, options)

    def _search(
        self, engine: Engine, encoding: Encoding, options: SearchOptions, choose: Choose | None = None
    ) -> list[list[Hypothesis]]:
        """choose: by default the model's ranker, if it has one."""
        alignment = engine.alignment

        def similarity(found: list[Sequence[Hypothesis]]) -> list[NDArray[np.float32]]:
            assert alignment is not None
            sentences = alignment.sentences([hypothesis.tokens for each in found for hypothesis in each])
            ends = np.cumsum([len(each) for each in found])[:-1]
            images = alignment.images(encoding)
            return [image @ own.T for image, own in zip(images, np.split(sentences, ends), strict=True)]

        if choose is None and self._ranker is not None:
            chooser = Chooser(self._gatherer(engine), self._ranker)
            choose = partial(chooser, encoding, options)
        return search(
            engine.decoder,
            encoding.visual_tokens,
            len(encoding),
            options,
            self.tokenizer.word_start,
            similarity if alignment else None,
            choose,
        )

    def _gatherer(self, engine: Engine) -> Gatherer:
        assert self._bank is not None
        assert engine.alignment is not None
        return Gatherer(self._bank, engine.alignment, self.tokenizer, self._class_words, engine.decoder)

    def _generate(self, engine: Engine, encoding: Encoding, options: SearchOptions) -> list[Caption]:
        return self._wording.captions(self._search(engine, encoding, options), encoding)


class _Closed:
    """Takes the place of a closed captioner's engine."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ValueError("this captioner is closed: make a new one")


def _told(error: Exception, source: ImageInput) -> ImageError:
    """The error for one picture of many; one that is not an ImageError is wrapped in one that names the picture."""
    clear_frames(error.__traceback__)  # frees its pixels: callers may keep many errors
    if isinstance(error, ImageError):
        return error
    label = images.label(source)
    reason = str(error).strip().partition("\n")[0][:300]
    failed = FailedImageError(
        f"{label}: processing it failed ({type(error).__name__}: {reason}): run again, and report it if it happens "
        "again"
    )
    failed.__cause__ = error
    return failed
