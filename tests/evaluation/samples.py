"""A few captions, small enough to reckon with by hand, and a maker of many random ones."""

import random

from captionist.evaluation.words import Words

REFERENCES = {
    "beach": ["A dog runs along the beach .", "A brown dog is running on the sand .", "The dog runs by the sea ."],
    "pool": ["A boy jumps into a swimming pool .", "The boy is diving into the water .", "A child leaps into a pool ."],
    "street": ["Two women walk down a busy street .", "Two women are walking in the city .", "People on a street ."],
    "hill": ["A man rides his bike down a hill .", "A cyclist rides downhill .", "The man is riding a red bicycle ."],
}
CANDIDATES = {
    "beach": "A brown dog runs along the beach .",
    "pool": "A boy is jumping into a swimming pool .",
    "street": "A man in a blue shirt .",
    "hill": "A man rides a bike down a hill .",
}


def random_corpus(pictures: int, seed: int = 0) -> tuple[list[list[Words]], list[Words]]:
    """Return references [pictures] of varying number and candidates [pictures], with overlap and some empty ones."""
    draw = random.Random(seed)
    vocabulary = [f"w{number}" for number in range(40)]

    def sentence(least: int) -> Words:
        return draw.choices(vocabulary, weights=range(40, 0, -1), k=draw.randint(least, 14))

    references = [[sentence(1) for _ in range(draw.randint(1, 5))] for _ in range(pictures)]
    candidates = [sentence(0) if draw.random() < 0.5 else draw.choice(group)[:10] for group in references]
    return references, candidates
