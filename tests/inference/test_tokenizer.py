"""Tokens to text and words, and the sentence made of it."""

from pathlib import Path

import pytest

from captionist.bundle import TOKENIZER, Bundle
from captionist.errors import BundleError
from captionist.inference.sentence import sentence
from captionist.inference.tokenizer import CaptionTokenizer
from tests.tiny_bundle import SENTENCES, write_tiny_bundle


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CaptionTokenizer:
    bundle = Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny"))
    return CaptionTokenizer(bundle.path / TOKENIZER)


@pytest.mark.parametrize("text", SENTENCES)
def test_text_survives_the_way_through_tokens(tokenizer: CaptionTokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    assert max(tokens) < len(tokenizer)
    assert tokenizer.decode(tokens) == text


def test_any_text_can_be_written(tokenizer: CaptionTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode(" a zebra, œufs")) == " a zebra, œufs"


def test_words_start_at_white_space(tokenizer: CaptionTokenizer) -> None:
    for text in SENTENCES:
        assert tokenizer.word_start[tokenizer.encode(text)].sum() == len(text.split())


def test_words_name_the_tokens_that_spell_them(tokenizer: CaptionTokenizer) -> None:
    tokens = tokenizer.encode(SENTENCES[3])
    words = tokenizer.words(tokens)
    assert " ".join(word.text for word in words) == "the woman's black-and-white cat sleeps near a window"
    spelt = ["".join(tokenizer.decode([tokens[place]]) for place in word.places).strip() for word in words]
    assert [text.replace("-", "") for text in spelt] == [word.text.replace("-", "") for word in words]
    places = [place for word in words for place in word.places]
    assert places == sorted(set(places))
    assert len(tokens) - 1 not in places  # the period


def test_a_file_that_is_no_tokenizer_is_an_error(tmp_path: Path) -> None:
    (tmp_path / TOKENIZER).write_text("{}")
    with pytest.raises(BundleError, match="not a tokenizer"):
        CaptionTokenizer(tmp_path / TOKENIZER)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (" a dog runs", "A dog runs."),
        ("a dog runs .", "A dog runs."),
        (" a man 's dog , running !", "A man's dog, running!"),
        ("  two\n dogs  ", "Two dogs."),
        (" a dog ,", "A dog."),
        (" , a dog", "A dog."),
        (' "stop" sign', '"Stop" sign.'),
        (" 3 dogs", "3 dogs."),
        (" . .", ""),
        ("", ""),
    ],
)
def test_sentence(raw: str, text: str) -> None:
    assert sentence(raw) == text
