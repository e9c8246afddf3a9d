"""Checkpoints of public captioners in the layout of the hub, saved by transformers itself, with random weights.

The real weights cannot be had here, but this shows that weights are read as transformers reads them.
"""

import math
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import BPE, WordPiece
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    DeiTConfig,
    GitConfig,
    GitForCausalLM,
    GPT2Config,
    GPT2TokenizerFast,
    PreTrainedModel,
    SwinConfig,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

Family = Literal["git", "blip", "vit-gpt2", "deit-gpt2", "swin-gpt2"]
FAMILIES: tuple[Family, ...] = ("git", "blip", "vit-gpt2", "deit-gpt2", "swin-gpt2")
_TEXT = """a an the two three dog dogs cat man woman child children people red blue green brown white black runs run
running jumps sits stands plays through over in on with near grass water snow beach street ball bicycle shirt field"""
WORDS = _TEXT.split()
CARD = "---\nlicense: mit\n---\n# A captioner\n"
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,'!-"


def save(directory: Path, family: Family, *, full: bool = False, seed: int = 0, **generation: Any) -> PreTrainedModel:
    """Save a checkpoint into a new directory; returns its model. full: as large as the base models on the hub.

    generation: settings of generation_config.json.
    """
    torch.manual_seed(seed)
    bert = family in ("git", "blip")
    model = {"git": _git, "blip": _blip}[family](full) if bert else _encoder_decoder(family, full)
    model = model.eval()
    pieces = _bert_vocabulary(False).index("##s") + 1 if bert else 256
    _liven(model, slice(pieces), 102 if bert else model.config.eos_token_id)
    for name, value in generation.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(directory)
    side = 64
    processor: Any = {
        "git": lambda: (
            CLIPImageProcessorPil()
            if full
            else CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        ),
        "blip": lambda: BlipImageProcessorPil() if full else BlipImageProcessorPil(size=_square(side)),
        "vit-gpt2": lambda: ViTImageProcessorPil() if full else ViTImageProcessorPil(size=_square(side)),
        "deit-gpt2": lambda: (
            DeiTImageProcessorPil() if full else DeiTImageProcessorPil(size=_square(73), crop_size=_square(side))
        ),
        "swin-gpt2": lambda: ViTImageProcessorPil(size=_square(224 if full else side), resample=3),
    }[family]()
    processor.save_pretrained(directory)
    tokenizer = _bert_tokenizer(full) if bert else _gpt2_tokenizer(full)
    tokenizer.save_pretrained(directory)
    (directory / "README.md").write_text(CARD, encoding="utf-8")
    return model


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


_SMALL_TOWER = {
    "image_size": 64,
    "patch_size": 16,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
}
_SMALL_BERT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
}


def _git(full: bool) -> PreTrainedModel:
    if full:
        return GitForCausalLM(GitConfig())
    return GitForCausalLM(GitConfig(vision_config=_SMALL_TOWER, vocab_size=len(_bert_vocabulary(False)), **_SMALL_BERT))


def _blip(full: bool) -> PreTrainedModel:
    # As on the hub, the model has [DEC] and [ENC], but its tokenizer does not.
    vocabulary = len(_bert_vocabulary(full)) + 2
    text = {"vocab_size": vocabulary, "bos_token_id": vocabulary - 2} | (
        {"num_attention_heads": 12} if full else _SMALL_BERT
    )
    return BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config={} if full else _SMALL_TOWER))


def _encoder_decoder(family: Family, full: bool) -> PreTrainedModel:
    if family == "swin-gpt2":
        small = {
            "image_size": 64,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [2, 4],
            "window_size": 4,
        }
        encoder: Any = SwinConfig(**{} if full else small)
    else:
        encoder = {"vit-gpt2": ViTConfig, "deit-gpt2": DeiTConfig}[family](**{} if full else _SMALL_TOWER)
    end = 50256 if full else len(_gpt2_vocabulary(False)) - 1
    small = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40, "vocab_size": end + 1}
    decoder = GPT2Config(
        is_decoder=True, add_cross_attention=True, bos_token_id=end, eos_token_id=end, **{} if full else small
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        encoder, decoder, decoder_start_token_id=end, eos_token_id=end, pad_token_id=end, tie_word_embeddings=False
    )
    return VisionEncoderDecoderModel(config=config)


def _liven(model: PreTrainedModel, mute: slice, end: int) -> None:
    """Set weights with which captions differ from picture to picture, and end. mute: tokens hardly ever written."""
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            table = "embedding" in name or ".wte" in name or ".wpe" in name
            transposed = any(part in name for part in (".c_attn", ".c_proj", ".c_fc", ".q_attn"))
            fan_in = parameter.shape[0] if transposed else math.prod(parameter.shape[1:])
            nn.init.normal_(parameter, std=1 if table else 1.5 / math.sqrt(fan_in))
        elif "norm" in name.lower() and name.endswith("weight"):
            nn.init.normal_(parameter, mean=1, std=0.2)
        else:
            nn.init.normal_(parameter, std=0.2)
    output = model.text_decoder.cls.predictions.decoder if hasattr(model, "text_decoder") else _output(model)
    with torch.no_grad():
        if output.bias is None:
            output.weight /= math.sqrt(output.weight.shape[1] / 4)
            output.weight[mute] *= 0.1
            # There is no bias for the end token, but the last norm's, in the direction of its row, serves.
            model.decoder.transformer.ln_f.bias += 0.8 * nn.functional.normalize(output.weight[end], dim=0)
        else:
            output.bias[mute], output.bias[end] = -30, 9.0 if hasattr(model, "text_decoder") else 2.5


def _output(model: PreTrainedModel) -> nn.Linear:
    found: nn.Linear = model.decoder.lm_head if hasattr(model, "decoder") else model.output
    return found


def _bert_vocabulary(full: bool) -> list[str]:
    vocabulary = ["[PAD]", *(f"[unused{n}]" for n in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary += [*_CHARACTERS, *(f"##{c}" for c in _CHARACTERS if c.isalnum()), "##ing", "##s", *WORDS]
    vocabulary = list(dict.fromkeys(vocabulary))
    return vocabulary + ([f"word{n}" for n in range(30522 - len(vocabulary))] if full else [])


def _bert_tokenizer(full: bool) -> BertTokenizerFast:
    tokenizer = Tokenizer(
        WordPiece({token: index for index, token in enumerate(_bert_vocabulary(full))}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = WordPieceDecoder()
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    names = {
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return BertTokenizerFast(tokenizer_object=tokenizer, **names)


def _gpt2_vocabulary(full: bool) -> list[str]:
    vocabulary = [*sorted(ByteLevel.alphabet()), *(f"Ġ{c}" for c in _CHARACTERS if c.isalnum())]
    for word in WORDS:
        vocabulary += [f"Ġ{word[:size]}" for size in range(2, len(word) + 1)]
    vocabulary = list(dict.fromkeys(vocabulary))
    return [*vocabulary, *(f"Ġword{n}" for n in range(50256 - len(vocabulary) if full else 0)), "<|endoftext|>"]


def _gpt2_tokenizer(full: bool) -> GPT2TokenizerFast:
    vocabulary = {token: index for index, token in enumerate(_gpt2_vocabulary(full))}
    merges = [("Ġ", c) for c in _CHARACTERS if c.isalnum()]
    merges += list(dict.fromkeys((f"Ġ{w[:n]}", w[n]) for w in WORDS for n in range(1, len(w))))
    tokenizer = Tokenizer(BPE(vocabulary, merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    end = "<|endoftext|>"
    return GPT2TokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end, unk_token=end)
