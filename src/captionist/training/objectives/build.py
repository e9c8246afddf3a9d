"""From a recipe's stage to its objective."""

from captionist.training.dataset import TrainingData
from captionist.training.objectives.caption import Captioning
from captionist.training.objectives.classes import Classifying
from captionist.training.objectives.contrastive import Contrast, Contrastive, TaughtContrast
from captionist.training.objectives.judging import Judging, Writer
from captionist.training.objectives.naming import Naming
from captionist.training.objectives.objective import Loss, Objective
from captionist.training.objectives.self_critical import SelfCritic, SelfCritical
from captionist.training.stage import Stage

_REFERENCES = 5  # captions of a picture by people, which judging weighs along with the model's own


def build_objective(stage: Stage, data: TrainingData) -> Objective:
    """The objective that the stage describes."""
    captioning = Captioning(stage.label_smoothing)
    longest = data.config.max_caption_tokens
    if stage.objective == "self_critical":
        critic = _critic(stage, data)
        return SelfCritical(losses=(captioning,), critic=critic, samples=stage.samples, max_tokens=longest)
    losses: list[Loss] = [] if stage.objective == "contrastive" else [captioning]
    if stage.naming and len(data.words):
        losses.append(Naming(data.words, stage.naming))
    if stage.classes:
        losses.append(Classifying(stage.classes))
    if stage.teacher:
        losses.append(TaughtContrast(data.teacher(stage.shares), stage.teacher))
    elif stage.contrasts:
        losses.append(Contrast(stage.contrastive or 1.0))
    if stage.objective != "contrastive":
        return Objective(losses=tuple(losses), feature_dropout=stage.feature_dropout)
    writer = None
    if stage.judging:
        losses.append(Judging(stage.judging))
        writer = Writer(_critic(stage, data), stage.samples, _REFERENCES, longest)
    return Contrastive(losses=tuple(losses), feature_dropout=stage.feature_dropout, writer=writer)


def _critic(stage: Stage, data: TrainingData) -> SelfCritic:
    references = {name: data.sources[name].references for name in stage.shares}
    return SelfCritic(data.tokenizer, references, stage.invention)
