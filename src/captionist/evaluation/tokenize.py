"""The words that scores count: the tokenisation of the COCO caption toolkit, without its Java."""

import re
from typing import Final

TOKENISATION: Final = "PTB, lower-cased, punctuation removed (COCO caption toolkit)"

_QUOTES: Final = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})

# Words that the Penn Treebank splits although nothing marks the place.
_FUSED: Final = {
    "cannot": "can not",
    "gimme": "gim me",
    "gonna": "gon na",
    "gotta": "got ta",
    "lemme": "lem me",
    "wanna": "wan na",
    "'tis": "'t is",
    "'twas": "'t was",
}
_FUSED_WORD: Final = re.compile(r"(?<!\w)(?:" + "|".join(_FUSED) + r")(?!\w)")
_NEGATION: Final = re.compile(r"(?<=\w)n't\b")

_TOKEN: Final = re.compile(
    r"""
      (?:[^\W\d_]\.){2,}                                       # u.s.
    | (?:mr|mrs|ms|dr|st|jr|sr|prof|corp|inc|etc|vs|mt|ft)\.   # a title or an abbreviation keeps its full stop
    | '(?:s|m|d|re|ve|ll|t|em|til)\b | 'n' | '\d0s\b | n't\b   # clitics: a man | 's dog, is | n't, rock | 'n' | roll
    | [dlo]'(?!s\b)\w+                                        # o'clock, hors d'oeuvres
    | \.?\d+(?:[.,:/]\d+)+(?:-\w+)* | \.\d+                    # 3.5, 1,000, 3:30, 1/2, .99
    | \w+(?:[-/&]\w+)*                                         # man, t-shirt, 10-year-old, black/white, a&m
    | [^\w\s]                                                  # any other sign by itself
    """,
    re.VERBOSE,
)
_PUNCTUATION: Final = frozenset(".,:;?!-'\"`()[]{}\u2013\u2014\u2026")


def tokenize(sentence: str) -> list[str]:
    """Return the words of `sentence`: lower-cased Penn Treebank tokens (Marcus et al. 1993) without punctuation.

    - clitics are words of their own: a man | 's, is | n't, ca | n't, they | 're; so are the halves of can | not
    - words joined by a hyphen, a slash or an ampersand stay one word: t-shirt, 10-year-old, black/white, a&m
    - numbers keep their signs (3.5, 1,000, 3:30), abbreviations their full stops (u.s., mr.)
    - quotes, brackets, dashes and ``. , : ; ? !`` are dropped; other signs ($ # & % @ ...) are words

    This is what pycocoevalcap's PTBTokenizer does (Stanford CoreNLP 3.4.1 in Java, then a list of punctuation to drop),
    apart from brackets: the toolkit means to drop them too but looks for "-LRB-" in text it has lower-cased, so that
    a bracket is scored there as the word "-lrb-". With brackets dropped on both sides none of the 5,000 captions of
    Flickr8k's dev split differ (one has a bracket), 7 of the corpus's 35,000 train and dev captions do, and 125 of
    144,832 of Flickr30k: HTML entities, addresses of web sites and rare abbreviations, none of which a captioner
    writes.
    """
    text = sentence.lower().translate(_QUOTES)
    text = _FUSED_WORD.sub(lambda match: _FUSED[match[0]], text)
    text = _NEGATION.sub(" n't", text)
    return [token for token in _TOKEN.findall(text) if token not in _PUNCTUATION]
