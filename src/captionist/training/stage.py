"""A recipe's stages: what each trains, on what, and how."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

ROOT, TEXT = "root", "text"
"""The sources that every recipe has: `data.root` with `data.also`, and their captions with those of `data.text`."""
_NAME = r"^[a-z0-9][a-z0-9_-]*$"
Name = Annotated[str, Field(pattern=_NAME)]


class Part(BaseModel):
    """Part of a recipe: it allows no other keys, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Rates(Part):
    """AdamW's peak learning rates."""

    encoder: float = Field(0.0, ge=0, description="the backbone")
    neck: float = Field(0.0, ge=0, description="what is between backbone and projection: a hybrid's blocks")
    projection: float = Field(0.0, ge=0)
    decoder: float = Field(0.0, ge=0)
    words: float = Field(0.0, ge=0, description="what is known of words seen, and what says that there is no picture")
    classifier: float = Field(0.0, ge=0, description="the classifier that nouns are taken from; needs Stage.classes")
    alignment: float = Field(0.0, ge=0, description="the heads that compare pictures and sentences")


class Stage(Part):
    """Epochs under one set of rules, with their own optimizer, a warm-up and a cosine down to zero."""

    name: str
    objective: Literal["caption", "text", "self_critical", "contrastive"] = Field(
        "caption",
        description="cross-entropy on pictures' captions; on text alone; CIDEr-D of sampled captions; or finding each "
        "picture's caption among those of a step, and the reverse",
    )
    samples: int = Field(
        5, ge=2, description="captions of each picture that self_critical draws in each step, and judging once"
    )
    invention: float = Field(
        0.0,
        ge=0,
        description="what each thing costs, of a CIDEr-D from 0 to 10, that a sampled caption names and neither "
        "its references nor the detector know; for self_critical",
    )
    epochs: int = Field(ge=0, description="0: what the run starts from is only scored and kept")
    batch_size: int | None = Field(
        None,
        ge=1,
        description="pictures (or captions: see packed) in a step, over all processes, where they are the root's; for "
        "objective text, groups of five captions of the root's and data.text",
    )
    sources: dict[Name, Annotated[int, Field(ge=1)]] = Field(
        {},
        description="instead of batch_size: how many examples a step takes from each source, of root, text and "
        "data.sources; an epoch is one pass over the first; the others repeat at their own pace",
    )
    packed: bool = Field(
        True,
        description="a picture's captions share a step, which saves most of the picture's cost; false: each caption is "
        "an example of its own, so that a step shows more pictures",
    )
    accumulate: int = Field(1, ge=1, description="the batch is cut into this many parts to fit in memory")
    frozen: int | Literal["backbone"] = Field(
        "backbone",
        description="backbone: it is frozen and its features are cached; n: its first n parts are frozen, 0: none",
    )
    rates: Rates
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="each part of the backbone has this fraction of the rate of the part after it"
    )
    warmup: float = Field(0.05, ge=0, le=1, description="share of the stage's steps")
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    naming: float = Field(
        0.0,
        ge=0,
        description="weight of another loss, for objectives caption and contrastive: the visual tokens name the words "
        "of the captions",
    )
    classes: float = Field(
        0.0,
        ge=0,
        description="weight of another loss, for objectives caption and contrastive: the classifier finds the classes "
        "that data.annotations has of each picture",
    )
    teacher: float = Field(
        0.0,
        ge=0,
        description="for objective contrastive: weight of another loss, by which the sentence head learns the space of "
        "data.teacher, linearly mapped; pictures then look for the teacher's vectors, too, and sources of text may "
        "teach the sentence head",
    )
    judging: float = Field(
        0.0,
        ge=0,
        description="for objective contrastive: weight of another loss, which teaches the heads to prefer those of "
        "the model's captions that CIDEr-D prefers",
    )
    contrastive: float = Field(0.0, ge=0, description="weight of the contrastive loss beside that of objective caption")
    feature_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="for objectives caption and contrastive: share of the backbone's channels dropped from a picture",
    )
    resolution: int | None = Field(
        None,
        ge=32,
        multiple_of=32,
        description="where a hybrid encoder trains: pixels that train pictures are shrunk to; none: the model's own",
    )
    augment: bool = Field(False, description="random crops, flips, colours and holes in train pictures")
    views: int = Field(
        3,
        ge=1,
        description="with a frozen backbone, how many augmented features of a picture are cached beside its own",
    )
    average: float | None = Field(None, gt=0, lt=1, description="decay of the moving average of the weights")
    keep: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the weights from before the stage in its final weights, which are also what is scored",
    )

    @model_validator(mode="after")
    def _what_goes_together(self) -> Self:
        if (self.batch_size is None) is (not self.sources):
            raise ValueError("give either batch_size or sources")
        if self.objective != "caption" and not self.packed:
            raise ValueError(f"packed: false is for objective caption, not for {self.objective}")
        if self.objective != "caption" and self.contrastive:
            raise ValueError(f"contrastive is for objective caption, not for {self.objective}")
        if self.invention and self.objective != "self_critical":
            raise ValueError(f"invention is for objective self_critical, not for {self.objective}")
        for name in ("naming", "classes", "feature_dropout"):
            if self.objective not in ("caption", "contrastive") and getattr(self, name):
                raise ValueError(f"{name} is for objectives caption and contrastive, not for {self.objective}")
        for name in ("teacher", "judging"):
            if self.objective != "contrastive" and getattr(self, name):
                raise ValueError(f"{name} is for objective contrastive, not for {self.objective}")
        if self.judging and set(self.rates.model_dump(exclude_defaults=True)) - {"alignment"}:
            raise ValueError("judging: what the model writes is judged once, so that the heads alone may have a rate")
        if self.contrasts and self.accumulate > 1:
            raise ValueError("accumulate: a contrastive loss needs the whole batch at once")
        if self.resolution and self.frozen == "backbone":
            raise ValueError("resolution: the features of a frozen backbone are those of the model's own")
        return self

    @property
    def shares(self) -> dict[str, int]:
        """How many examples a step takes from each source; one round of the first is an epoch."""
        return self.sources or {TEXT if self.objective == "text" else ROOT: self.batch_size or 0}

    @property
    def scored(self) -> bool:
        """Whether its epochs end with a dev score: a stage on text alone sees no pictures."""
        return self.objective != "text"

    @property
    def contrasts(self) -> bool:
        """Whether pictures and sentences are compared."""
        return self.objective == "contrastive" or self.contrastive > 0
