"""Words seen: what a detector and the stem's own classifier name, as tokens before the caption.

Each is GPT-2's own embedding of the word, so that a word that no captioned picture showed can still be copied into a
sentence (tags before the text; after Li et al. 2020, Oscar, arXiv:2004.06165). Added to it is what is known about the
word: how sure it is, how many there are, and where.
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from captionist.model.config import WordsConfig
from captionist.model.detector import CLASSES
from captionist.model.language import encode_caption

IMAGENET_NOUNS = tuple(Path(__file__).with_name("imagenet_nouns.txt").read_text(encoding="utf-8").split())
"""For each of ImageNet's 1,000 classes an everyday noun, or a dash if captions have none for it."""
NOUNS = tuple(sorted({noun for noun in IMAGENET_NOUNS if noun != "-"}))
_FACTS, _NOUN_FACTS = 7, 2
_LEAST = 1e-3  # nouns much less probable than this are all alike


class WordsSeen(nn.Module):
    """The surest classes of a detector, and the surest nouns of the stem's ImageNet classifier, as tokens."""

    def __init__(self, config: WordsConfig, width: int, features: int, tokenizer: Tokenizer) -> None:
        """width: D, of the tokens; features: C, what the classifier reads."""
        super().__init__()
        self.config = config
        self.classifier = nn.Linear(features, len(IMAGENET_NOUNS))
        self.facts, self.noun_facts = nn.Linear(_FACTS, width), nn.Linear(_NOUN_FACTS, width)
        self.offsets = nn.Parameter(torch.zeros(len(CLASSES) + len(NOUNS), width))
        self.no_picture = nn.Parameter(torch.zeros(1, width))
        for layer in (self.facts, self.noun_facts):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        self.grouping: Tensor
        self.register_buffer("grouping", _grouping(), persistent=False)
        self.pieces: Tensor
        self.shares: Tensor
        self.spell(tokenizer)

    def __len__(self) -> int:
        """How many tokens there are."""
        return self.config.objects + self.config.nouns

    def spell(self, tokenizer: Tokenizer) -> None:
        """Take the words' embeddings from a tokenizer's ids; a word in several pieces gets their mean."""
        spelt = [encode_caption(tokenizer, word) for word in (*CLASSES, *NOUNS)]
        pieces = torch.zeros(len(spelt), max(map(len, spelt)), dtype=torch.long)
        shares = torch.zeros(pieces.shape)
        for row, ids in enumerate(spelt):
            pieces[row, : len(ids)] = torch.tensor(ids)
            shares[row, : len(ids)] = 1 / len(ids)
        device = self.offsets.device
        self.register_buffer("pieces", pieces.to(device), persistent=False)
        self.register_buffer("shares", shares.to(device), persistent=False)

    def spelt(self, embeddings: Tensor) -> Tensor:
        """GPT-2's embeddings float [V, D] -> those of classes and nouns: float [80 + M, D]."""
        return (embeddings[self.pieces] * self.shares[..., None]).sum(1)

    def classes(self, features: Tensor) -> Tensor:
        """The encoder's features float [B, P, C] -> the probability of each of ImageNet's classes, float [B, 1000]."""
        probabilities: Tensor = self.classifier(features.mean(1)).float().softmax(-1)
        return probabilities

    def forward(self, objects: Tensor, nouns: Tensor, embeddings: Tensor) -> Tensor:
        """Tokens float [B, K, D], the surest first, classes before nouns.

        Args: objects float [B, 80, 6], as `inference.detector.Detector` gives them; nouns float [B, M], their
        probabilities; embeddings float [V, D], GPT-2's.
        """
        table = self.spelt(embeddings) + self.offsets
        _, best = objects[..., 0].topk(self.config.objects, dim=1)
        chosen = objects.gather(1, best[..., None].expand(-1, -1, objects.shape[2]))
        area = (chosen[..., 4:5] - chosen[..., 2:3]) * (chosen[..., 5:6] - chosen[..., 3:4])
        facts = torch.cat((chosen[..., :1], chosen[..., 1:2].log1p() / 2, chosen[..., 2:], area), -1)
        probability, surest = nouns.topk(self.config.nouns, dim=1)
        noun_facts = torch.stack((probability, (probability + _LEAST).log() / 4), -1)
        # DDP wants a gradient for every parameter in every step: the last term adds zero.
        named = table[best] + self.facts(facts) + 0 * self.no_picture
        return torch.cat((named, table[len(CLASSES) + surest] + self.noun_facts(noun_facts)), 1)


def _grouping() -> Tensor:
    """float [1000, M]: 1 where a noun stands for an ImageNet class."""
    grouping = torch.zeros(len(IMAGENET_NOUNS), len(NOUNS))
    for row, noun in enumerate(IMAGENET_NOUNS):
        if noun != "-":
            grouping[row, NOUNS.index(noun)] = 1
    return grouping
