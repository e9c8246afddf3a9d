"""The model card of an exported bundle, written from the recipe, the run's environment and the scores."""

from typing import Any

from captionist.evaluation.mistakes import Mistakes
from captionist.evaluation.scores import Scores
from captionist.model.fusion import VisionPrefixLM
from captionist.model.graphs import Precision
from captionist.training.recipe import Recipe, Stage

_OBJECTIVES = {
    "text": "text alone",
    "caption": "pictures and their captions",
    "self_critical": "the CIDEr-D of captions sampled for pictures",
}


def model_card(
    recipe: Recipe,
    environment: dict[str, Any],
    model: VisionPrefixLM,
    scores: dict[str, Any],
    precision: Precision,
    best: str,
) -> str:
    """Markdown.

    Args: environment: a run's environment.json; scores: what the bundle's scores.json holds; best: the epoch that the
    weights are from, in words, or nothing where it is not known.
    """
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    encoder = "a hybrid ViT" if recipe.model.encoder.family == "hybrid" else "a ViT"
    commits = dict.fromkeys(str(part["commit"]) for part in (environment, *environment.get("resumed", [])))
    kept = f"\n\nKept are the weights after {best}, the best on dev." if best else ""
    stages = "\n".join(_stage(stage) for stage in recipe.stages)
    return f"""# {recipe.name}

Describes a photograph in one English sentence. Visual tokens of {encoder} at {model.config.encoder.resolution} pixels,
{model.prefix_length} of them, are linearly projected and prepended to GPT-2's input. {millions:.1f} million parameters,
a vocabulary of {model.tokenizer.get_vocab_size():,} tokens, weights in {precision}.

{recipe.notes.strip()}

## Scores

{_scores(scores)}

## Training

Recipe `{recipe.name}` with seed {recipe.seed}, at commit {" and ".join(commits)}, on {environment["device"]}
(precision {environment["precision"]}), started {environment["started"]}.

{stages}{kept}
"""


def _stage(stage: Stage) -> str:
    what = _OBJECTIVES[stage.objective]
    if stage.objective != "text" and stage.frozen:
        what += (
            ", backbone frozen" if stage.frozen == "backbone" else f", the backbone's first {stage.frozen} parts frozen"
        )
    return f"- {stage.name}, epochs: {stage.epochs}; on {what}"


def _scores(scores: dict[str, Any]) -> str:
    if "note" in scores:
        return str(scores["note"])
    measures = Scores.model_validate({name: scores[name] for name in Scores.model_fields}).measures()
    rows = [f"| {name} | {m.value:.1f} | {m.low:.1f} to {m.high:.1f} |" for name, m in measures.items()]
    table = "\n".join(["| score | value | 95 % interval |", "|---|---|---|", *rows])
    parity = scores["parity"]
    text = f"""On the {scores["pictures"]:,} pictures of {scores["corpus"]} {scores["split"]}; {scores["tokenisation"]}.

{table}

Greedy captions agree with the torch model on {parity["captions"]} of {parity["pictures"]} pictures; the largest
difference of a logit is {parity["logits"]:.1g}.

`captionist evaluate --data {scores["corpus"]} --split {scores["split"]}` prints these figures."""
    return text + _mistakes(scores) + _confidence(scores)


def _mistakes(scores: dict[str, Any]) -> str:
    if "mistakes" not in scores:
        return ""
    lines = "\n".join(f"- {line}" for line in Mistakes(**scores["mistakes"]).lines())
    return f"""

## Mistakes

Counted by words:

{lines}"""


def _confidence(scores: dict[str, Any]) -> str:
    kept = scores.get("reliability")
    if not kept:
        return ""
    return f"""

## Confidence

Calibrated on half of these pictures to be the chance that a person would accept the caption; a CIDEr-D of at least
{kept["accepted_cider"]:.1f} stands for acceptance, as three of four people's captions have. On the other half the
expected calibration error is {kept["error"]:.3f}; of an acceptable caption and another one, the acceptable one is the
more confident in {kept["discrimination"]:.0%} of cases. That says nothing of pictures of another kind."""
