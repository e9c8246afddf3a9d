"""The model card of an exported bundle, written from the recipe, the run's environment and the scores."""

from typing import Any

from captionist.model.fusion import VisionPrefixLM
from captionist.model.graphs import Precision
from captionist.training.recipe import Recipe, Stage

_NAMES = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr-D",
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
    what = "text alone" if stage.objective == "text" else "pictures"
    if stage.objective != "text":
        what += ", backbone frozen" if stage.frozen == "backbone" else f", all but {stage.frozen} parts of the backbone"
    return f"- {stage.name}: {stage.epochs} epochs on {what}, {stage.batch_size} pictures or as much text a step"


def _scores(scores: dict[str, Any]) -> str:
    if "note" in scores:
        return str(scores["note"])
    rows = [
        f"| {name} | {scores[key]['value']:.1f} | {scores[key]['low']:.1f} to {scores[key]['high']:.1f} |"
        for key, name in _NAMES.items()
        if scores[key]
    ]
    table = "\n".join(["| score | value | 95 % interval |", "|---|---|---|", *rows])
    parity = scores["parity"]
    return f"""On the {scores["pictures"]:,} pictures of {scores["corpus"]} {scores["split"]}; {scores["tokenisation"]}.

{table}

Greedy captions agree with the torch model on {parity["captions"]} of {parity["pictures"]} pictures; the largest
difference of a logit is {parity["logits"]:.1g}.

`captionist evaluate --data {scores["corpus"]} --split {scores["split"]}` prints these figures."""
