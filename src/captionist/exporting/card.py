"""The model card of an exported bundle, written from the recipe, the run's environment and the scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from captionist.bundle import TRAINING_HEADING
from captionist.evaluation.mistakes import Mistakes
from captionist.evaluation.retrieval import Recall
from captionist.evaluation.scores import Scores
from captionist.exporting.graphs import Precision
from captionist.model.fusion import VisionPrefixLM
from captionist.training.recipe import Recipe
from captionist.training.stage import Stage

_ENCODERS = {"vit": "a ViT", "hybrid": "a hybrid ViT", "clip": "CLIP's ViT", "siglip": "SigLIP's ViT"}
_OBJECTIVES = {
    "text": "text alone",
    "caption": "pictures and their captions",
    "self_critical": "the CIDEr-D of captions sampled for pictures",
    "contrastive": "finding pictures' captions among others, and captions' pictures",
}


@dataclass(frozen=True)
class Training:
    """A run: its directory's name, its recipe and its environment.json."""

    name: str
    recipe: Recipe
    environment: dict[str, Any]


def model_card(
    recipe: Recipe,
    model: VisionPrefixLM,
    scores: dict[str, Any],
    precision: Precision,
    history: Sequence[Training],
    best: str,
) -> str:
    """Markdown.

    Args: scores: what the bundle's scores.json holds; history: the runs that led to the model, the last one its own;
    best: the epoch that the weights are from, in words, or nothing if it is not known.
    """
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    encoder = _ENCODERS[recipe.model.encoder.family]
    kept = f"\n\nKept are the weights after {best}, the best on dev." if best else ""
    bundles = [bundle["training"] for run in history for bundle in run.environment.get("bundles", {}).values()]
    training = "\n\n".join(dict.fromkeys([*bundles, *map(_training, history)]))
    return f"""# {recipe.name}

Describes a photograph in one English sentence. Visual tokens of {encoder} at {model.config.encoder.resolution} pixels,
{model.grid**2} of them, are linearly projected and prepended to GPT-2's input. {millions:.1f} million parameters,
a vocabulary of {model.tokenizer.get_vocab_size():,} tokens, weights in {precision}.

{recipe.notes.strip()}

## Scores

{_scores(scores)}{_others(scores)}{_bank(recipe)}

{TRAINING_HEADING}

{training}{kept}
"""


def _training(run: Training) -> str:
    environment, recipe = run.environment, run.recipe
    commits = dict.fromkeys(str(part["commit"]) for part in (environment, *environment.get("resumed", [])))
    bundles = environment.get("bundles", {})
    starts = [
        f"the bundle {start.name} ({bundles[str(start)]['fingerprint'][:12]})"
        if str(start) in bundles
        else start.parent.name
        for start in recipe.start
    ]
    begun = f"\nIt went on from {' and '.join(starts)}" if starts else ""
    begun += ", whose weights were averaged." if len(starts) > 1 else "." if starts else ""
    stages = "\n".join(_stage(stage) for stage in recipe.stages if stage.epochs)
    commit, device = " and ".join(commits), environment["device"]
    return f"""Recipe `{recipe.name}` with seed {recipe.seed}, at commit {commit}, on {device}
(precision {environment["precision"]}), started {environment["started"]} as {run.name}.{begun}

{stages}""".rstrip()


def _stage(stage: Stage) -> str:
    what = _OBJECTIVES[stage.objective]
    if stage.objective != "text" and stage.frozen:
        what += (
            ", backbone frozen" if stage.frozen == "backbone" else f", the backbone's first {stage.frozen} parts frozen"
        )
    if stage.sources:
        what += "; of each step's examples " + ", ".join(f"{n} from {name}" for name, n in stage.sources.items())
    return f"- {stage.name}, epochs: {stage.epochs}; on {what}"


def _scores(scores: dict[str, Any]) -> str:
    if "note" in scores:
        return str(scores["note"])
    recall = [f"{Recall(**scores['recall']).line()}."] if scores["recall"] else []
    told, parity = "\n\n".join([_table(scores), *scores["notes"], *recall]), scores["parity"]
    text = f"""On the {scores["pictures"]:,} pictures of {scores["corpus"]} {scores["split"]}; {scores["tokenisation"]}.

{told}

Greedy captions agree with the torch model on {parity["captions"]} of {parity["pictures"]} pictures; the largest
difference of a logit is {parity["logits"]:.1g}."""
    return text + _details(scores, scores["corpus"], scores["split"])


def _others(scores: dict[str, Any]) -> str:
    return "".join(
        f"""

## Scores on {corpus}

On its {found["pictures"]:,} {scores["split"]} pictures:

{_table(found)}{_details(found, corpus, scores["split"])}"""
        for corpus, found in scores.get("others", {}).items()
    )


def _details(scores: dict[str, Any], corpus: str, split: str) -> str:
    command = f"\n\n`captionist evaluate --data {corpus} --split {split}` prints these figures."
    return command + _mistakes(scores) + _failures(scores) + _confidence(scores)


def _table(scores: dict[str, Any]) -> str:
    measures = Scores.model_validate({name: scores[name] for name in Scores.model_fields}).measures()
    rows = [f"| {name} | {m.value:.1f} | {m.low:.1f} to {m.high:.1f} |" for name, m in measures.items()]
    return "\n".join(["| score | value | 95 % interval |", "|---|---|---|", *rows])


def _bank(recipe: Recipe) -> str:
    if recipe.bank is None:
        return ""
    return f"""

## Sentences of other pictures

What its decoder writes competes with {recipe.search.retrieved} sentences that people wrote about other pictures, chosen
by how well they fit what is seen; a caption may be one of them. {recipe.bank.credit.strip()}"""


def _mistakes(scores: dict[str, Any]) -> str:
    if "mistakes" not in scores:
        return ""
    lines = "\n".join(f"- {line}" for line in Mistakes(**scores["mistakes"]).lines())
    return f"""

## Mistakes

Counted by words:

{lines}"""


def _failures(scores: dict[str, Any]) -> str:
    if not scores.get("failures"):
        return ""
    cells = ([f[name].replace("|", "\\|") for name in ("picture", "caption", "reference")] for f in scores["failures"])
    rows = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    return f"""

## Failures

Of the captions that say next to nothing of what people say (a CIDEr-D below 5), those that it is surest of:

| picture | it says | a person says |
|---|---|---|
{rows}"""


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
