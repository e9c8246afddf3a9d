"""Teaches EfficientNet-Lite2 what Flickr8k's pictures mean, before it is told to write: the embedded model's stem.

Two losses on the mean of its features: which words people say of the picture (binary cross-entropy, with the share of
its captions that have the word), and which of the batch's captions is its own (InfoNCE; a caption is a bag of words).
It is what the embedded model was trained with (docs/results.md), and about what `objective: contrastive` with `naming`
does in a recipe, where that has not yet been run to its end.

    python recipes/flickr8k_stem.py OUT START...

makes OUT/best: the mean of the models START, which began alike, with the new stem. About an hour on one core.
"""

import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from captionist.evaluation.tokenize import tokenize
from captionist.model.fusion import load_model
from captionist.model.stem import OUTPUT_CHANNELS, EfficientNetLite2
from captionist.training.augment import AUGMENT_DRAWS, augment
from captionist.training.dataset import Corpora
from captionist.training.pictures import normalise
from captionist.training.recipe import load_recipe
from captionist.training.sources import PictureSet

EPOCHS, BATCH, RESOLUTION, SIZE = 6, 64, 192, 512
RATE, DECAY, HEAD_RATE, FROZEN = 3e-4, 0.9, 1e-3, 4


def main(out: Path, starts: list[Path]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    recipe, models = load_recipe(Path("recipes/flickr8k-small.yaml")), [load_model(start) for start in starts]
    model = models[0]
    train = Corpora(recipe.data).train(model.tokenizer)["root"]
    pictures = PictureSet(train, recipe.model.encoder.resolution, recipe.data)
    said = [Counter(word for caption in e.references for word in set(tokenize(caption))) for e in train]
    pictures = Counter(word for words in said for word in words)
    words = [word for word, count in pictures.items() if 12 <= count < 0.6 * len(train)]
    place = {word: index for index, word in enumerate(words)}
    shares = torch.tensor([[counts[word] / 5 for word in words] for counts in said])
    rarity = torch.tensor([*(math.log(len(train) / pictures[word]) for word in words), 0.0])
    bags = [[[place[w] for w in set(tokenize(c)) if w in place] or [len(words)] for c in e.references] for e in train]

    stem = EfficientNetLite2()
    stem.load_imagenet(load_file("weights/efficientnet-lite2/model.safetensors"))
    head = nn.Linear(OUTPUT_CHANNELS, len(words))
    nn.init.zeros_(head.weight)
    head.bias.data = torch.logit(shares.mean(0).clamp(1e-4, 0.99))
    embeddings, image_head = nn.Embedding(len(words) + 1, SIZE), nn.Linear(OUTPUT_CHANNELS, SIZE, bias=False)
    scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    parts = [stem.stem, *stem.blocks, stem.head]
    for part in parts[:FROZEN]:
        part.requires_grad_(False)
    groups = [
        {"params": list(part.parameters()), "peak": RATE * DECAY**depth}
        for depth, part in enumerate(reversed(parts[FROZEN:]))
    ]
    heads = [*head.parameters(), *embeddings.parameters(), *image_head.parameters(), scale]
    groups.append({"params": heads, "peak": HEAD_RATE})
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98), weight_decay=0.02)
    generator, step = torch.Generator().manual_seed(1), 0
    steps = EPOCHS * (len(train) // BATCH)
    for epoch in range(EPOCHS):
        order, total = torch.randperm(len(train), generator=generator), 0.0
        for first in range(0, len(train) - BATCH + 1, BATCH):
            chosen = order[first : first + BATCH].sort().values
            draws = torch.rand(len(chosen), AUGMENT_DRAWS, generator=generator)
            (shown,) = pictures.pixels.batches([chosen.numpy()])
            pixels = augment(torch.from_numpy(shown), pictures.flippable[chosen], draws)
            small = F.interpolate(normalise(pixels, model.encoder), (RESOLUTION,) * 2, mode="bilinear", antialias=True)
            with torch.autocast("cpu", torch.bfloat16):
                features = stem(small.contiguous(memory_format=torch.channels_last)).float().mean((2, 3))
            features = F.dropout(features, 0.2)
            naming = F.binary_cross_entropy_with_logits(head(features), shares[chosen], reduction="none").sum(1).mean()
            drawn = [bags[i][int(torch.randint(len(bags[i]), (1,), generator=generator))] for i in chosen.tolist()]
            loss = naming + _contrast(image_head(features), _sentences(drawn, embeddings.weight, rarity), scale)
            rate = min(1, (step + 1) / (steps * 0.05)) * 0.5 * (1 + math.cos(math.pi * step / steps))
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 5.0)
            optimizer.step()
            step, total = step + 1, total + float(loss.detach())
        sys.stderr.write(f"epoch {epoch + 1}: loss {total / (len(train) // BATCH):.2f}\n")

    mean = model.state_dict()
    for number, other in enumerate(models[1:], start=2):
        for name, weight in other.state_dict().items():
            mean[name].lerp_(weight, 1 / number)
    model.encoder.stem.load_state_dict(stem.state_dict())
    model.save(out / "best")


def _sentences(bags: list[list[int]], embeddings: Tensor, rarity: Tensor) -> Tensor:
    flat = torch.tensor([word for bag in bags for word in bag])
    starts = torch.from_numpy(np.cumsum([0, *(len(bag) for bag in bags[:-1])]))
    return F.embedding_bag(flat, embeddings, starts, mode="sum", per_sample_weights=rarity[flat])


def _contrast(images: Tensor, sentences: Tensor, scale: Tensor) -> Tensor:
    logits = F.normalize(images, dim=1) @ F.normalize(sentences, dim=1).T * scale.exp().clamp(max=100)
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
