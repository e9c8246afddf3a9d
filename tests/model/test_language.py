"""Our GPT-2 against transformers', and the cut of its vocabulary."""

from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel

from captionist.errors import RecipeError
from captionist.model.language import (
    END_OF_TEXT,
    cut_tokenizer,
    encode_caption,
    load_language,
    load_tokenizer,
)
from tests.model.checkpoints import CAPTIONS, Checkpoints

ODD_TEXTS = (
    "żółć naïve Ωμέγα",
    "狗在草地上跑",
    "🐕‍🦺 runs \U0001f1e9\U0001f1ea",
    "tab\tnew\nline\r nul\x00 soft\u00adhyphen \u202eturned",
    "  two  spaces ",
    "'tis don't <|end",
)


@pytest.mark.parametrize("name", ["gpt2", "gpt2-exact"])
def test_logits_are_those_of_transformers(checkpoints: Checkpoints, name: str) -> None:
    language = load_language(checkpoints.path(name), 0.1)
    gpt2 = language.gpt2.eval()
    theirs = GPT2LMHeadModel.from_pretrained(checkpoints.path(name)).eval()
    tokens = torch.randint(gpt2.config.vocab_size, (3, 17), generator=torch.Generator().manual_seed(1))
    causal = torch.ones(17, 17, dtype=torch.bool).tril()
    with torch.inference_mode():
        expected = theirs(tokens).logits
        hidden, _, _ = gpt2(gpt2.wte(tokens), torch.arange(17), causal)
        assert torch.allclose(gpt2.logits(hidden), expected, atol=1e-5)


def test_a_cut_vocabulary_splits_its_captions_as_before(checkpoints: Checkpoints) -> None:
    tokenizer = load_tokenizer(checkpoints.path("gpt2"))
    chosen = list(CAPTIONS[:2])
    reduced, kept = cut_tokenizer(tokenizer, chosen)
    assert reduced.get_vocab_size() == len(kept) < tokenizer.get_vocab_size()
    for caption in chosen:
        ids = encode_caption(reduced, caption)
        assert reduced.encode(" " + caption).tokens == tokenizer.encode(" " + caption).tokens
        assert [kept[index] for index in ids] == encode_caption(tokenizer, caption)
        assert max(map(len, reduced.encode(" " + caption).tokens)) > 2  # words, not mere letters
    end = reduced.token_to_id(END_OF_TEXT)
    assert end is not None
    assert kept[end] == tokenizer.token_to_id(END_OF_TEXT)


@pytest.mark.parametrize("text", [*ODD_TEXTS, *CAPTIONS])
def test_a_cut_vocabulary_still_writes_any_text(checkpoints: Checkpoints, text: str) -> None:
    reduced, _ = cut_tokenizer(load_tokenizer(checkpoints.path("gpt2")), list(CAPTIONS[:1]))
    assert reduced.decode(encode_caption(reduced, text)) == " " + text


def test_the_end_of_text_is_one_token_that_says_nothing(checkpoints: Checkpoints) -> None:
    reduced, _ = cut_tokenizer(load_tokenizer(checkpoints.path("gpt2")), list(CAPTIONS))
    end = reduced.token_to_id(END_OF_TEXT)
    assert reduced.encode(f"a{END_OF_TEXT}").ids[-1] == end
    assert reduced.decode([*encode_caption(reduced, "a dog"), end]) == " a dog"


def test_missing_weights_are_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "no-such-gpt2")
    with pytest.raises(RecipeError, match="no-such-gpt2"):
        load_tokenizer(missing)
    with pytest.raises(RecipeError, match="no-such-gpt2"):
        load_language(missing, 0.0)


@pytest.mark.parametrize("lost", ["model.safetensors", "vocab.json", "merges.txt"])
def test_an_incomplete_checkpoint_is_named(checkpoints: Checkpoints, tmp_path: Path, lost: str) -> None:
    copy = tmp_path / "half-a-gpt2"
    copy.mkdir()
    for file in Path(checkpoints.path("gpt2")).iterdir():
        if file.name != lost:
            (copy / file.name).write_bytes(file.read_bytes())
    with pytest.raises(RecipeError, match="half-a-gpt2"):
        load_language(str(copy), 0.0)
