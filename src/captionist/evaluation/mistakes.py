"""Two kinds of mistake that scores hide: people of the wrong sex, and things that are not there.

Both are counted by words against the references, so they are bounds, not verdicts: references need not mention
everything in a picture.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from captionist.evaluation.tokenize import tokenize

_MALE = {"man", "men", "boy", "boys", "guy", "guys", "male", "males", "gentleman", "gentlemen", "he", "his", "him"}
_FEMALE = {"woman", "women", "girl", "girls", "lady", "ladies", "female", "females", "she", "her", "hers"}

# The 40 most frequent nouns of Flickr8k's train captions. Each comes with its other forms, and the words that support
# it if a reference says them. All words for people are one noun; the sexes above tell people apart.
_NOUNS = {
    "person": "people man men woman women boy boys girl girls child children kid kids baby toddler player players guy "
    "lady adult crowd group team couple skier skateboarder surfer biker cyclist climber swimmer rider girls family "
    "male female someone friend friends runner snowboarder boarder wrestler dancer racer hiker infant teenager "
    "individual skater persons ladies guys teenagers rower rowers musician performers",
    "dog": "dogs puppy puppies greyhound greyhounds retriever poodle terrier dalmatian collie pup shepherd hound lab "
    "labs animal animals canine",
    "water": "ocean sea lake river pool stream pond wave waves surf creek fountain sprinkler puddle waterfall splash",
    "ball": "balls football basketball baseball volleyball tennis soccer softball rugby",
    "shirt": "shirts t-shirt tshirt top jersey uniform uniforms jerseys sweatshirt tank",
    "grass": "grassy lawn field meadow yard turf",
    "snow": "snowy snowbank ski skis skiing skier snowboard snowboarder snowboarding",
    "field": "fields grass meadow pasture court lawn grassy game pitch",
    "air": "midair mid-air airborne jump jumping jumps leaps leaping sky flying",
    "mouth": "mouths teeth tongue bite biting biting carrying carries holding holds",
    "beach": "sand sandy shore ocean sea seashore coast",
    "street": "road streets city sidewalk pavement traffic corner",
    "bike": "bikes bicycle bicycles motorcycle motorbike dirtbike biker bicyclist cyclist biking bmx cycle",
    "rock": "rocks rocky boulder boulders cliff stone stones",
    "camera": "cameras photo photograph picture pictures posing poses pose photographer",
    "pool": "pools swimming swim swims water",
    "jacket": "jackets coat coats parka sweater vest hoodie",
    "hat": "hats cap caps helmet beanie hats headgear bonnet",
    "toy": "toys doll ball frisbee",
    "wall": "walls brick building graffiti",
    "dirt": "dirty mud muddy sand sandy dust dusty",
    "mountain": "mountains hill hills cliff peak mountainside mountaintop rock",
    "park": "parks playground skatepark garden",
    "building": "buildings house houses skyscraper store church structure tower",
    "stick": "sticks branch branches twig log",
    "face": "faces painted",
    "hill": "hills hillside slope mountain mountainside dune",
    "sand": "sandy beach dune dunes desert",
    "tree": "trees woods forest wooded branch branches leaves",
    "skateboard": "skateboards skateboarder skateboarding skateboarders skate skater skateboarded board",
    "car": "cars vehicle vehicles truck van jeep automobile racecar suv",
    "hair": "haired hairs blond blonde brunette ponytail redhead pigtails mohawk",
    "road": "roads street path highway lane trail track",
    "bench": "benches seat",
    "helmet": "helmets hat",
    "sidewalk": "sidewalks street pavement walkway curb",
    "shorts": "trunks pants short",
    "fence": "fences fenced gate railing rail",
    "dress": "dresses gown skirt dressed costume",
    "swing": "swings swinging",
}
_SUPPORT = {noun: frozenset((noun, *more.split())) for noun, more in _NOUNS.items()}


@dataclass(frozen=True)
class Mistakes:
    """Counts over pictures.

    male: pictures where every reference names a male person and none a female one; called_female: those of them where
    the caption speaks only of a female person. female, called_male: the reverse. objects: how often captions name one
    of the 40 most frequent nouns; unsupported: how often no reference bears it out, also by noun.
    """

    male: int
    called_female: int
    female: int
    called_male: int
    objects: int
    unsupported: int
    by_noun: dict[str, int]

    def lines(self) -> list[str]:
        """The counts in words, a line each."""
        worst = ", ".join(f"{noun} {count}" for noun, count in list(self.by_noun.items())[:5])
        return [
            f"where all references agree on a person's sex: {self.called_female} of {self.male} men or boys are called "
            f"women or girls, {self.called_male} of {self.female} women or girls are called men or boys",
            f"of {self.objects:,} mentions of the 40 most frequent nouns, {self.unsupported:,} "
            f"({self.unsupported / max(self.objects, 1):.1%}) are supported by no reference ({worst or 'none'})",
        ]


def count_mistakes(references: Mapping[str, Sequence[str]], candidates: Mapping[str, str]) -> Mistakes:
    """Count the mistakes of captions against their references, both by picture id."""
    counts: Counter[str] = Counter()
    by_noun: Counter[str] = Counter()
    for picture, candidate in candidates.items():
        said = set(tokenize(candidate))
        groups = [set(tokenize(reference)) for reference in references[picture]]
        sex = _sex(said)
        agreed = {_sex(words) for words in groups}
        if len(agreed) == 1 and (unanimous := agreed.pop()):
            counts[unanimous] += 1
            counts[f"{unanimous} called {sex}"] += 1
        counts["objects"] += len(_nouns(said))
        by_noun.update(unsupported_nouns(said, set().union(*groups)))
    return Mistakes(
        male=counts["male"],
        called_female=counts["male called female"],
        female=counts["female"],
        called_male=counts["female called male"],
        objects=counts["objects"],
        unsupported=by_noun.total(),
        by_noun=dict(sorted(by_noun.items(), key=lambda item: (-item[1], item[0]))),
    )


def unsupported_nouns(said: set[str], references: set[str]) -> set[str]:
    """Which of the 40 most frequent nouns a caption says, though none of its references bears them out."""
    return {noun for noun in _nouns(said) if not _SUPPORT[noun] & references}


def _nouns(said: set[str]) -> set[str]:
    people = {"person"} if said & _SUPPORT["person"] else set()
    return people | {noun for noun in _SUPPORT if noun in said or f"{noun}s" in said}


def _sex(words: set[str]) -> str:
    """male, female, or empty if neither or both are mentioned."""
    male, female = bool(words & _MALE), bool(words & _FEMALE)
    return "" if male == female else "male" if male else "female"
