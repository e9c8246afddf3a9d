"""Captions of a tiny model against sentences of other pictures: which one wins, and what the caption says about it."""

from pathlib import Path

import numpy as np
import pytest

from captionist import BundleError, Captioner
from captionist.bundle import BANK_SENTENCES, MODEL_CARD, RANKER, Bundle, Calibration, write_config
from captionist.exporting.bank import add_bank, usable_sentences
from captionist.inference.candidates import FEATURES
from captionist.inference.ranker import Ranker, read_ranker
from captionist.inference.search import Sampling, SearchOptions
from captionist.inference.sentence import sentence
from tests.pictures import patchwork
from tests.tiny_bundle import write_tiny_bundle

SENTENCES = [
    "a red dog runs through the grass",
    "two children play on the green beach",
    "a man rides his blue bicycle",
    "the cat sleeps near a window",
    "a brown ball",
]
PICTURES = [patchwork(seed) for seed in range(6)]


def linear(**weights: float) -> Ranker:
    """A ranker that adds up features."""
    names = tuple(name.replace("_", " ") for name in weights)
    no, none = np.zeros(len(names), np.float32), np.zeros(0, np.float32)
    slopes = np.array(list(weights.values()), np.float32)
    return Ranker(names, no, no + 1, slopes, np.zeros((len(names), 0), np.float32), none, none)


def bundle_with(path: Path, ranker: Ranker | None, *, retrieved: int = 3, seeing: bool = True) -> Path:
    write_tiny_bundle(path, aligned=True, seeing=seeing)
    add_bank(path, SENTENCES, "nobody's")
    if ranker is not None:
        ranker.save(path)
        config = Bundle.open(path).config
        assert config.bank is not None
        search = config.search.override(retrieved=retrieved)
        bank = config.bank.model_copy(update={"ranked": True})
        calibration = Calibration(intercept=0, slope=0, accepted_cider=50, weights={"cosine": 2})
        write_config(path, config.model_copy(update={"bank": bank, "search": search, "calibration": calibration}))
    return path


@pytest.fixture(scope="module")
def for_others(tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    """Prefers sentences of other pictures to its own."""
    path = tmp_path_factory.mktemp("bundle") / "others"
    return Captioner(bundle_with(path, linear(written=-100.0, cosine=1.0)), threads=2)


@pytest.fixture(scope="module")
def for_its_own(tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    path = tmp_path_factory.mktemp("bundle") / "own"
    return Captioner(bundle_with(path, linear(written=100.0, log_probability=1.0)), threads=1)


@pytest.mark.parametrize("seeing", [True, False])
def test_a_sentence_of_another_picture_can_win(tmp_path: Path, seeing: bool) -> None:
    captioner = Captioner(bundle_with(tmp_path / "tiny", linear(written=-9.0, cosine=1.0), seeing=seeing))
    known = [sentence(text) for text in SENTENCES]
    for picture in PICTURES:
        caption = captioner.caption(picture)
        assert caption.text in known
        assert [word.word.lower() for word in caption.word_attention] == caption.text.lower().rstrip(".").split()
        for word in caption.word_attention:
            assert word.weights.sum() == pytest.approx(1, abs=1e-5)


def test_the_winner_has_the_probability_that_the_decoder_gives_it(for_others: Captioner) -> None:
    encoding = for_others.encode([for_others.prepare(PICTURES[0])])
    [[best, *_]] = for_others.hypotheses(encoding, for_others.defaults)
    decoder = for_others.decoder
    step, total = decoder.prefill(encoding.visual_tokens), 0.0
    for token in (*best.tokens, decoder.eos_id):
        total += float(step.log_probs[0, token])
        step = decoder.step(np.array([token]), step.state)
    assert best.log_probability == pytest.approx(total, abs=1e-3)


def test_the_nearest_compete_and_the_best_comes_first(for_others: Captioner) -> None:
    encoding = for_others.encode([for_others.prepare(picture) for picture in PICTURES])
    for candidates in for_others.candidates(encoding, for_others.defaults):
        assert candidates.written.tolist() == [True, True, False, False, False]
        assert all(text in SENTENCES for text in candidates.texts[2:])
        assert set(candidates.features()) == set(FEATURES)
        assert all(len(values) == 5 for values in candidates.features().values())
    for picture in PICTURES:
        caption = for_others.caption(picture, num_captions=5, retrieved=3)
        listed = [caption, *caption.alternatives]
        assert [one.text in map(sentence, SENTENCES) for one in listed[:3]] == [True] * 3
        assert [one.confidence for one in listed] == sorted((one.confidence for one in listed), reverse=True)
        assert listed[0].confidence > listed[-1].confidence


def test_confidence_follows_from_the_evidence(for_others: Captioner) -> None:
    encoding = for_others.encode([for_others.prepare(PICTURES[1])])
    [found] = for_others.hypotheses(encoding, for_others.defaults.override(num_captions=2))
    [candidates] = for_others.candidates(encoding, for_others.defaults.override(num_captions=2))
    place = [caption.tokens for caption in candidates.captions].index(found[0].tokens)
    cosines = [float(candidates.cosine[place]), found[1].evidence["cosine"]]
    caption = for_others.caption(PICTURES[1], num_captions=2)
    assert caption.confidence == pytest.approx(1 / (1 + np.exp(-2 * cosines[0])), abs=1e-4)
    assert caption.alternatives[0].confidence == pytest.approx(1 / (1 + np.exp(-2 * cosines[1])), abs=1e-4)


def test_no_alternative_is_surer_than_the_caption(tmp_path: Path) -> None:
    """Ranked by how much they agree, but confident by how near they are: the two orders differ."""
    captioner = Captioner(bundle_with(tmp_path / "tiny", linear(agreement=1.0)))
    turned = 0
    for picture in PICTURES:
        encoding = captioner.encode([captioner.prepare(picture)])
        [found] = captioner.hypotheses(encoding, captioner.defaults.override(num_captions=5))
        sure = [1 / (1 + np.exp(-2 * caption.evidence["cosine"])) for caption in found]
        caption = captioner.caption(picture, num_captions=5)
        told = [one.confidence for one in (caption, *caption.alternatives)]
        assert told == pytest.approx(np.minimum.accumulate(sure), abs=1e-4)
        turned += told != pytest.approx(sure, abs=1e-4)
    assert turned


def test_limits_hold_for_sentences_of_others(for_others: Captioner) -> None:
    known = [sentence(text) for text in SENTENCES]
    for picture in PICTURES:
        assert for_others.caption(picture, max_words=3).text in (
            "A brown ball.",
            for_others.caption(picture, retrieved=0, max_words=3).text,
        )
        assert for_others.caption(picture, retrieved=0).text not in known
        assert for_others.caption(picture, sample=Sampling(seed=1)).text not in known
        assert len(for_others.caption(picture, max_tokens=4).text.split()) <= 4


def test_whole_sentences_win_over_those_that_the_word_limit_cut_off(tmp_path: Path) -> None:
    captioner = Captioner(bundle_with(tmp_path / "tiny", linear(written=0.01)))
    cut = 0
    for picture in PICTURES:
        encoding = captioner.encode([captioner.prepare(picture)])
        [found] = captioner.hypotheses(encoding, captioner.defaults.override(max_words=3, num_captions=5))
        pushed = [caption.pushed for caption in found]
        assert pushed == pytest.approx(sorted(pushed), abs=0.05)
        cut += pushed[0] < 1 < pushed[-1]
    assert cut


def test_its_own_captions_can_win(for_its_own: Captioner, tmp_path: Path) -> None:
    plain = Captioner(bundle_with(tmp_path / "plain", None))
    for picture in PICTURES:
        own, before = for_its_own.caption(picture), plain.caption(picture)
        assert own.text == before.text
        assert own.log_probability == pytest.approx(before.log_probability, abs=1e-4)


def test_a_model_that_has_not_learnt_to_choose_does_not(tmp_path: Path) -> None:
    captioner = Captioner(bundle_with(tmp_path / "tiny", None))
    assert captioner.defaults.retrieved == 0
    for ask in (captioner.caption, captioner.caption_many):
        with pytest.raises(ValueError, match="leave it at 0"):
            ask(PICTURES[0], retrieved=2)
    with pytest.raises(ValueError, match="leave it at 0"):
        captioner.generate(captioner.encode([captioner.prepare(PICTURES[0])]), SearchOptions(retrieved=2))


def test_a_model_without_sentences_has_no_candidates(tmp_path: Path) -> None:
    captioner = Captioner(write_tiny_bundle(tmp_path / "tiny", aligned=True))
    with pytest.raises(BundleError, match="no sentences"):
        captioner.candidates(captioner.encode([captioner.prepare(PICTURES[0])]), captioner.defaults)


@pytest.mark.parametrize("missing", [BANK_SENTENCES, RANKER])
def test_a_bundle_needs_all_parts(tmp_path: Path, missing: str) -> None:
    path = bundle_with(tmp_path / "tiny", linear(cosine=1.0))
    (path / missing).unlink()
    with pytest.raises(BundleError, match=missing):
        Bundle.open(path)


@pytest.mark.parametrize(
    ("part", "value", "complaint"),
    [
        ("names", np.array(["fame"]), "chooses by fame, which this captionist does not know"),
        ("linear", np.array([np.nan], np.float32), r"linear should be \[1\] finite numbers"),
        ("hidden", np.zeros((2, 0), np.float32), r"hidden should be \[1, 0\]"),
        ("mean", np.zeros(1), "mean should be .* but it is float64"),
    ],
)
def test_a_damaged_ranker_says_so(tmp_path: Path, part: str, value: np.ndarray, complaint: str) -> None:
    linear(cosine=1.0).save(tmp_path)
    np.savez(tmp_path / RANKER, **dict(np.load(tmp_path / RANKER)) | {part: value})
    with pytest.raises(BundleError, match=complaint):
        read_ranker(tmp_path)
    (tmp_path / RANKER).write_bytes(b"PK")
    with pytest.raises(BundleError, match="cannot be read"):
        read_ranker(tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"alignment": None}, "a bank needs an alignment"),
        ({"bank": None}, "search.retrieved needs a bank that is ranked"),
    ],
)
def test_settings_must_fit_together(tmp_path: Path, change: dict[str, None], complaint: str) -> None:
    path = bundle_with(tmp_path / "tiny", linear(cosine=1.0))
    write_config(path, Bundle.open(path).config.model_copy(update=change))
    with pytest.raises(BundleError, match=complaint):
        Bundle.open(path)


def test_a_bank_credits_its_sentences_and_takes_no_second(tmp_path: Path) -> None:
    path = bundle_with(tmp_path / "tiny", None)
    assert "5 sentences about other pictures: nobody's" in (path / MODEL_CARD).read_text()
    Bundle.open(path).verify()
    with pytest.raises(BundleError, match="already"):
        add_bank(path, SENTENCES, "nobody's")
    with pytest.raises(BundleError, match="there is no sentence"):
        add_bank(write_tiny_bundle(tmp_path / "new", aligned=True), [], "nobody's")


def test_usable_sentences_are_plain_distinct_and_of_a_fitting_length() -> None:
    lines = ["A dog.", "Two dogs run over the Green grass!", "two dogs run over the green grass", "word " * 14]
    assert usable_sentences(lines) == ["two dogs run over the green grass"]
