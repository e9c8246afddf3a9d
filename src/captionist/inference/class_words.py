"""Which of a detector's classes a sentence names: COCO's classes, and the everyday words for them."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_OTHER_WORDS = {
    "person": "persons man men woman women people boy boys girl girls child children kid kids player players lady "
    "ladies guy guys baby toddler crowd skier snowboarder surfer skateboarder rider batter",
    "bicycle": "bicycles bike bikes",
    "car": "suv taxi",
    "motorcycle": "motorcycles motorbike motorbikes bike bikes",
    "airplane": "airplanes plane planes jet jets airliner",
    "bus": "buses",
    "boat": "ship ships canoe sailboat",
    "traffic light": "light lights",
    "fire hydrant": "hydrant hydrants",
    "parking meter": "meter meters",
    "bench": "benches",
    "bird": "pigeon duck ducks goose geese",
    "cat": "kitten kittens",
    "dog": "puppy puppies",
    "horse": "pony",
    "sheep": "lamb lambs",
    "cow": "cattle bull bulls calf",
    "backpack": "bag",
    "handbag": "purse bag",
    "suitcase": "luggage",
    "skis": "ski skiing skier skiers",
    "snowboard": "snowboarder snowboarding",
    "sports ball": "ball balls soccer tennis baseball",
    "baseball bat": "bat baseball batter",
    "baseball glove": "glove baseball",
    "skateboard": "skateboarder skateboarding skater",
    "surfboard": "surfer surf surfing surfers",
    "tennis racket": "racket rackets racquet tennis",
    "wine glass": "glass glasses wine",
    "cup": "mug",
    "knife": "knives",
    "broccoli": "vegetables",
    "hot dog": "hotdog hotdogs",
    "donut": "doughnut doughnuts",
    "couch": "couches sofa sofas",
    "potted plant": "plant plants",
    "dining table": "table tables",
    "tv": "television televisions monitor",
    "laptop": "computer",
    "cell phone": "phone phones cellphone",
    "oven": "stove stoves",
    "refrigerator": "fridge",
    "book": "bookshelf",
    "teddy bear": "teddy",
    "hair drier": "hairdryer hairdrier",
    "toothbrush": "toothbrushes",
}
_WORD = re.compile(r"[a-z0-9']+")


def words_of(text: str) -> list[str]:
    """The lower-case words of a text, without its punctuation."""
    return _WORD.findall(text.lower())


class ClassWords:
    """Finds the classes that sentences name. A class without everyday words here is found by its name alone."""

    def __init__(self, classes: Sequence[str]) -> None:
        """classes: K names in lower case, of one word or two."""
        self._classes = len(classes)
        self._named: dict[str, list[int]] = {}
        for number, name in enumerate(classes):
            for word in {name, f"{name}s", *_OTHER_WORDS.get(name, "").split()}:
                self._named.setdefault(word, []).append(number)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Which classes each of N texts names: bool [N, K]. "Hot dog" names no dog."""
        named = np.zeros((len(texts), self._classes), np.bool_)
        for row, text in zip(named, texts, strict=True):
            words, place = words_of(text), 0
            while place < len(words):
                pair = self._named.get(" ".join(words[place : place + 2])) if place + 1 < len(words) else None
                row[self._named.get(words[place], []) if pair is None else pair] = True
                place += 1 if pair is None else 2
        return named
