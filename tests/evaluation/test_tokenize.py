import shutil

import pytest
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from captionist.evaluation.tokenize import tokenize

KNOWN = [
    ("A man's dog isn't here.", "a man 's dog is n't here"),
    ("They're sure he'll see I'd go; we've won", "they 're sure he 'll see i 'd go we 've won"),
    ("The dogs' bowls, and 'quoted' \"words\"", "the dogs bowls and quoted words"),
    ("I cannot swim and can't dive, gonna try", "i can not swim and ca n't dive gon na try"),
    ("A T-shirt - worn by a 10-year-old -- twice", "a t-shirt worn by a 10-year-old twice"),
    ("Number 5, 3.5 miles, 1,000 people at 3:30 .", "number 5 3.5 miles 1,000 people at 3:30"),
    ("Player #5 pays $5 (or 50%)!", "player # 5 pays $ 5 or 50 %"),
    ("Mr. Smith waves a U.S. flag on St. Paul street", "mr. smith waves a u.s. flag on st. paul street"),
    ("rock 'n' roll at five o'clock...", "rock 'n' roll at five o'clock"),
    ("\u201cIt\u2019s\u201d a caf\u00e9 \u2014 black/white \u2026", "it 's a caf\u00e9 black/white"),
    ("two\tlines\nof  text", "two lines of text"),
    (" . ", ""),
    ("", ""),
]


@pytest.mark.parametrize(("sentence", "words"), KNOWN)
def test_words_of_a_sentence(sentence: str, words: str) -> None:
    assert tokenize(sentence) == words.split()


TRICKY = """\
I cannot see what they can't; he's gonna go and she wants to, they wanna.
a Texas A&M player , # 5 , against number 5 in red & white
he said ``yes'' and played rock 'n' roll at 5 o'clock .
They'd go, we'll stay, you've seen, I'm here, they're there, don't ask.
\u201cCurly quotes\u201d and it\u2019s fine \u2014 a dash \u2013 another \u2026
man,woman and a;b or a:c !
pro-american ex-wife mid-air x-ray 4x4 3-D glasses .
a dog`s bone
A boy eating hors d'oeuvres
two  spaces and a trailing one 
a woman wearing number 23 , a man 42
A woman in a 1950s-style dress
a .99 coin and 2.50 more
One child's toy and two children's toys
A skateboarder does a 360
The Boston Red Sox's pitcher throws .
MANY CAPITALS IN ONE LINE, and no full stop at the end"""


@pytest.mark.skipif(shutil.which("java") is None, reason="the Java tokenizer to compare with needs java on the PATH")
def test_words_are_those_of_the_coco_toolkit() -> None:
    sentences = [sentence.replace("\n", " ") for sentence, words in KNOWN if words] + TRICKY.split("\n")
    by_java = PTBTokenizer().tokenize({number: [{"caption": text}] for number, text in enumerate(sentences)})
    brackets = {"-lrb-", "-rrb-"}  # which the toolkit means to drop and does not; see tokenize()

    expected = [[word for word in by_java[number][0].split() if word not in brackets] for number in by_java]
    assert len(expected) == len(sentences)
    assert [tokenize(text) for text in sentences] == expected
