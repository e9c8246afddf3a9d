"""Mistakes that are counted by words."""

from captionist.evaluation.mistakes import Mistakes, count_mistakes


def test_a_sex_is_wrong_only_where_all_references_agree() -> None:
    references = {
        "man": ["A man runs.", "The guy is running."],
        "woman": ["A woman sits.", "Two girls on a bench."],
        "mixed": ["A man and a woman.", "A couple."],
        "unsure": ["A man runs.", "A person runs."],
    }
    right = dict.fromkeys(references, "A person runs.")
    [told, *_] = count_mistakes(references, right).lines()
    assert told.endswith("0 of 1 men or boys are called women or girls, 0 of 1 women or girls are called men or boys")
    found = count_mistakes(references, dict.fromkeys(references, "A woman in her dress."))
    assert (found.male, found.called_female, found.female, found.called_male) == (1, 1, 1, 0)
    found = count_mistakes(references, dict.fromkeys(references, "A man and a woman."))
    assert (found.called_female, found.called_male) == (0, 0)


def test_things_that_no_reference_bears_out() -> None:
    references = {"1": ["A puppy swims in a lake.", "An animal"], "2": ["A kid in a hoodie."]}
    found = count_mistakes(
        references, {"1": "Two dogs in the water with a ball.", "2": "A girl in a jacket and a hat."}
    )
    assert found.objects == 6
    assert found.unsupported == 2
    assert found.by_noun == {"ball": 1, "hat": 1}
    assert "33.3%" in found.lines()[1]


def test_nothing_said_is_no_mistake() -> None:
    assert count_mistakes({"1": ["A man."]}, {"1": ""}) == Mistakes(1, 0, 0, 0, 0, 0, {})
