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
    "contrastive": "finding each picture's captions, and each caption's picture",
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
    """The card, as Markdown.

    Args: scores: what the bundle's scores.json holds; history: the runs that led to the model, its own last; best: the
    epoch that the weights are from, in words, or empty if it is not known.
    """
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    encoder = _ENCODERS[recipe.model.encoder.family]
    kept = f"\n\nThe weights are those after {best}, the best on dev." if best else ""
    bundles = [bundle["training"] for run in history for bundle in run.environment.get("bundles", {}).values()]
    training = "\n\n".join(dict.fromkeys([*bundles, *map(_training, history)]))
    return f"""# {recipe.name}

Describes a photograph in one English sentence. At {model.config.encoder.resolution} pixels, {encoder} turns it into
{model.grid**2} visual tokens, which are linearly projected and prepended to GPT-2's input. The model has {millions:.1f}
million parameters, a vocabulary of {model.tokenizer.get_vocab_size():,} tokens, and weights in {precision}.

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
    begun = f"\nIt started from {' and '.join(starts)}" if starts else ""
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
        what += "; each step takes " + ", ".join(f"{n} from {name}" for name, n in stage.sources.items())
    return f"- {stage.name}, epochs: {stage.epochs}; on {what}"


def _scores(scores: dict[str, Any]) -> str:
    if "note" in scores:
        return str(scores["note"])
    recall = [f"{Recall(**scores['recall']).line()}."] if scores["recall"] else []
    told, parity = "\n\n".join([_table(scores), *scores["notes"], *recall]), scores["parity"]
    text = f"""On the {scores["pictures"]:,} pictures of {scores["corpus"]} {scores["split"]}.
Words: {scores["tokenisation"]}.

{told}

The bundle's greedy captions agree with the torch model on {parity["captions"]} of {parity["pictures"]} pictures; the
largest difference between log-probabilities is {parity["log_probs"]:.1g}."""
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

## Sentences about other pictures

The decoder's captions compete with {recipe.search.retrieved} sentences that people wrote about other pictures, chosen
by how well they fit what the model sees. A caption may be one of these sentences. {recipe.bank.credit.strip()}"""


def _mistakes(scores: dict[str, Any]) -> str:
    if "mistakes" not in scores:
        return ""
    lines = "\n".join(f"- {line}" for line in Mistakes(**scores["mistakes"]).lines())
    return f"""

## Mistakes

Counted by words, captions against references:

{lines}"""


def _failures(scores: dict[str, Any]) -> str:
    if not scores.get("failures"):
        return ""
    cells = ([f[name].replace("|", "\\|") for name in ("picture", "caption", "reference")] for f in scores["failures"])
    rows = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    return f"""

## Failures

The captions with the highest confidence among those that say hardly anything that people say (CIDEr-D below 5):

| picture | it says | a person says |
|---|---|---|
{rows}"""


def _confidence(scores: dict[str, Any]) -> str:
    kept = scores.get("reliability")
    if not kept:
        return ""
    return f"""

## Confidence

It estimates the chance that a person would accept the caption, and was calibrated on half of these pictures. A caption
counts as acceptable if its CIDEr-D is at least {kept["accepted_cider"]:.1f}; three in four captions by people reach it.
On the other half, the expected calibration error is {kept["error"]:.3f}; of an acceptable caption and another one, the
acceptable one has the higher confidence in {kept["discrimination"]:.0%} of cases. For pictures of another kind, these
figures say nothing."""
