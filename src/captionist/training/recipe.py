"""A recipe: the YAML file that fully determines a training run."""

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from captionist.errors import RecipeError
from captionist.faults import find_faults
from captionist.model.config import ModelConfig
from captionist.options import SearchOptions
from captionist.training.stage import ROOT, TEXT, Name, Part, Stage


class SourceConfig(Part):
    """Where some of a step's examples come from: pictures with captions, or captions alone."""

    corpus: Path | None = Field(None, description="a corpus, whose train split trains")
    format: str = "auto"
    text: tuple[Path, ...] = Field((), description="files of captions without pictures, one a line; each is an example")
    weight: float = Field(1.0, gt=0, description="what the loss of each caption is multiplied by")
    limit: int | None = Field(None, ge=1, description="only this many pictures, or captions")
    group: int = Field(
        1,
        ge=1,
        description="for text: up to this many captions that seem to describe one picture form an example; needs "
        "data.teacher",
    )
    near: int = Field(80, ge=1, description="how many lines apart captions of a group may be")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.corpus is None) is (not self.text):
            raise ValueError("give either corpus or text")
        if self.group > 1 and not self.text:
            raise ValueError("group is for text; a corpus has its pictures' captions")
        return self


class DataConfig(Part):
    """Which captions and pictures a run sees."""

    root: Path = Field(description="the corpus; its train split trains, its dev split chooses the best epoch")
    format: str = "auto"
    also: tuple[Path, ...] = Field(
        (), description="more corpora, such as a feedback export, whose train splits train too; dev stays the root's"
    )
    repeat: int = Field(1, ge=1, description="how many times an epoch shows the pictures of `also`")
    text: tuple[Path, ...] = Field((), description="files of captions, one a line, for stages with objective text")
    sources: dict[Name, SourceConfig] = Field(
        {}, description="more sources that stages can draw from: see `Stage.sources`"
    )
    teacher: Path | None = Field(
        None, description="a sentence encoder in the layout of transformers' BertModel; see `Stage.teacher`"
    )
    annotations: tuple[str, ...] = Field(
        (), description="arrays beside each picture that the model is given, too: see training.annotations"
    )
    exclude: tuple[Path, ...] = Field(
        (), description="other corpora whose dev and test pictures and captions are kept out of training too"
    )
    leak_check: bool = Field(True, description="keep dev and test out of training; see docs/corpora.md")
    max_unreadable: float = Field(
        0.01, ge=0, lt=1, description="share of the pictures that may be unreadable: they are left out and named"
    )
    lowercase: bool = True
    max_caption_tokens: int = Field(20, ge=1, description="training captions with more GPT-2 tokens are dropped")
    limit: int | None = Field(None, ge=1, description="only this many train and dev pictures, to try out a recipe")
    cache: Path = Field(Path("cache"), description="where decoded pictures and features are kept between runs")
    decode: Literal["auto", "ahead", "workers"] = Field(
        "auto",
        description="ahead: a source's pictures are decoded once, into the cache; workers: processes decode them as "
        "they are needed; auto: ahead where they take less than 8 GB",
    )
    workers: int = Field(2, ge=0, description="how many processes decode a source's pictures; 0: the run itself does")

    @model_validator(mode="after")
    def _nothing_is_excluded_without_the_check(self) -> Self:
        if self.exclude and not self.leak_check:
            raise ValueError("exclude needs leak_check: true")
        return self

    @model_validator(mode="after")
    def _groups_are_found_by_the_teacher(self) -> Self:
        for name, source in self.sources.items():
            if source.group > 1 and self.teacher is None:
                raise ValueError(f"sources: {name}'s group needs data.teacher")
        return self

    @model_validator(mode="after")
    def _names_are_free(self) -> Self:
        if taken := {ROOT, TEXT} & self.sources.keys():
            raise ValueError(f"sources: {taken.pop()} is a source that every recipe has; choose another name")
        return self

    def has_pictures(self, source: str) -> bool:
        """Whether the examples of that source are pictures."""
        return source == ROOT or (source != TEXT and self.sources[source].corpus is not None)


class DevConfig(Part):
    """A corpus whose dev split is scored after each epoch."""

    corpus: Path
    format: str = "auto"
    limit: int | None = Field(None, ge=1, description="only the first N pictures")
    weight: float = Field(1.0, ge=0, description="in the mean by which the best epoch is chosen")


class ValidationConfig(Part):
    """How dev captions are scored after each epoch; `Recipe.search` says how they are written."""

    corpora: dict[Name, DevConfig] = Field(
        {}, description="the best epoch has the highest mean of their CIDEr-D, by weight; none: the root's dev alone"
    )
    batch_size: int = Field(50, ge=1)
    limit: int | None = Field(None, ge=1, description="only the first N dev pictures of a corpus")

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if self.corpora and not any(corpus.weight for corpus in self.corpora.values()):
            raise ValueError("corpora: give at least one a weight above 0")
        return self


class BankRecipe(Part):
    """Sentences of other pictures, of which `search.retrieved` compete with captions; see `inference.bank`."""

    source: Name = Field(description="whose captions they are: a source without pictures")
    credit: str = Field(description="for the model card: where they are from, and under what licence")


class Recipe(Part):
    """Everything that determines a run, except the machine."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    notes: str = Field("", description="Markdown for the model card: data, licences, what the model is good and bad at")
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the device is fast at it")
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints inside an epoch")
    log_every: int = Field(20, ge=1, description="steps between lines of the log")
    start: tuple[Path, ...] = Field(
        (),
        description="a trained model to start from (RUN/best, a bundle, or the embedded one's name), with the same "
        "`model` except for dropout and an alignment, which it may lack; for several with the same start, the mean of "
        "their weights; none: the pretrained weights",
    )
    data: DataConfig
    model: ModelConfig
    stages: tuple[Stage, ...] = Field(min_length=1)
    search: SearchOptions = Field(
        SearchOptions(),
        description="of dev captions and of the exported bundle; match_weight and retrieved are of the bundle alone",
    )
    validation: ValidationConfig = ValidationConfig()
    bank: BankRecipe | None = Field(None, description="none: an exported bundle says what its decoder writes")

    @model_validator(mode="after")
    def _what_a_bank_needs(self) -> Self:
        if bool(self.bank) is not bool(self.search.retrieved):
            raise ValueError("a bank and search.retrieved need each other: give both, or neither")
        if self.bank is None:
            return self
        if self.model.alignment is None:
            raise ValueError("bank needs model.alignment")
        source = self.data.sources.get(self.bank.source)
        if source is None or not source.text:
            raise ValueError(f"bank: data.sources has no {self.bank.source} without pictures")
        return self

    @model_validator(mode="after")
    def _what_the_stages_need_of_the_model(self) -> Self:
        if self.model.words is not None and "objects" not in self.data.annotations:
            raise ValueError("model.words needs data.annotations objects")
        if self.search.match_weight and self.model.alignment is None:
            raise ValueError("search.match_weight needs model.alignment")
        for stage in self.stages:
            if stage.contrasts and self.model.alignment is None:
                raise ValueError(f"stage {stage.name} compares pictures and sentences: give model.alignment a width")
            if stage.teacher and self.data.teacher is None:
                raise ValueError(f"stage {stage.name}: teacher needs data.teacher")
            if self.model.words is None and (stage.classes or stage.rates.words or stage.rates.classifier):
                raise ValueError(f"stage {stage.name}: classes and the rates of words need model.words")
            if stage.classes and ("classes" not in self.data.annotations or self.model.alignment is None):
                raise ValueError(f"stage {stage.name}: classes needs data.annotations classes, and model.alignment")
            if stage.resolution is not None:
                encoder, grid = self.model.encoder, self.model.prefix_grid
                if encoder.family != "hybrid" or grid is None:
                    raise ValueError(f"stage {stage.name}: resolution needs a hybrid encoder and model.prefix_grid")
                if not 32 * grid <= stage.resolution <= encoder.resolution:
                    raise ValueError(
                        f"stage {stage.name}: resolution must be from {32 * grid} (for prefix_grid {grid}) to "
                        f"{encoder.resolution}, the model's own"
                    )
        return self

    @model_validator(mode="after")
    def _the_stages_draw_from_what_there_is(self) -> Self:
        known = (ROOT, TEXT, *self.data.sources)
        for stage in self.stages:
            for name in stage.shares:
                if name not in known:
                    raise ValueError(f"stage {stage.name}: no source is called {name}; there are {', '.join(known)}")
            pictured = [name for name in stage.shares if self.data.has_pictures(name)]
            text = [name for name in stage.shares if name not in pictured]
            if stage.objective == "text" and pictured:
                raise ValueError(f"stage {stage.name}: {pictured[0]} has pictures; objective caption takes both")
            if text and stage.objective == "contrastive" and not stage.teacher:
                raise ValueError(f"stage {stage.name}: {text[0]} has no pictures, which {stage.objective} needs")
            alone = [name for name in text if name == TEXT or self.data.sources[name].group == 1]
            if stage.objective == "self_critical" and alone:
                raise ValueError(
                    f"stage {stage.name}: {alone[0]} has no groups, by which self_critical judges captions"
                )
            if stage.objective != "text" and not pictured:
                raise ValueError(f"stage {stage.name}: no source has pictures; objective text takes such")
        return self

    @property
    def picture_sources(self) -> tuple[str, ...]:
        """The sources with pictures that some stage draws from."""
        return tuple(name for name in self._used if self.data.has_pictures(name))

    @property
    def text_sources(self) -> tuple[str, ...]:
        """The sources without pictures that some stage draws from."""
        return tuple(name for name in self._used if not self.data.has_pictures(name))

    @property
    def _used(self) -> dict[str, None]:
        return dict.fromkeys(name for stage in self.stages for name in stage.shares)

    @field_validator("notes", mode="before")
    @classmethod
    def _nothing_is_no_notes(cls, value: Any) -> Any:
        return "" if value is None else value  # as `notes=` is on the command line

    @field_validator("start", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else () if value is None else value


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe and apply `key=value` overrides, such as `stages.0.epochs=2` or `data.root=DIR`.

    Values are YAML. Raises RecipeError naming the key that is unknown or has a wrong value.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror}). Recipes are in recipes/.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} is not a recipe: a mapping with name, data, model and stages is needed.")
    for override in overrides or []:
        _override(content, override)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(map(str, find_faults(error, Recipe.model_fields)))
        raise RecipeError(f"{path}: {faults}.") from error


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, defaults written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def _override(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator:
        raise RecipeError(f"{override!r} is not an override: write key=value, such as stages.0.epochs=2.")
    *parents, last = key.split(".")
    place: Any = content
    try:
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
        place[int(last) if isinstance(place, list) else last] = yaml.safe_load(value)
    except (IndexError, ValueError, TypeError, AttributeError) as error:
        raise RecipeError(f"{key} is not in the recipe, so {override!r} cannot override it.") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"The value of {override!r} is not YAML: {error}") from error
