"""Heat maps that show where each word looked, and the files they end in."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from captionist import Caption, CaptionistError, WordAttention
from captionist.explain import SheetFolder, draw
from captionist.images import decode
from tests.pictures import patchwork


def spot(row: int, column: int, share: float) -> NDArray[np.float32]:
    """Attention on a 4 x 4 grid of which half sits in a sink at the top left, and `share` at one position."""
    weights = np.full((4, 4), (0.5 - share) / 14, np.float32)
    weights[0, 0], weights[row, column] = 0.5, share
    return weights


def caption_of(*weights: NDArray[np.float32], text: str = "Some words.") -> Caption:
    return Caption(text, -1.0, 0.5, (), tuple(WordAttention(f"word{n}", one) for n, one in enumerate(weights)))


def test_contrast_finds_the_spots_that_a_sink_hides() -> None:
    spots = [(1, 2), (3, 3), (2, 0)]
    weights = [spot(row, column, 0.1) for row, column in spots]
    assert all(word.argmax() == 0 for word in weights)
    heat = caption_of(*weights).heat_maps()
    assert [np.unravel_index(word.argmax(), word.shape) for word in heat] == spots
    assert heat.max(axis=(1, 2)).tolist() == [1, 1, 1]
    assert heat.min() >= 0
    assert heat[:, 0, 0].max() < 0.1


def test_words_that_all_look_alike_are_not_made_to_differ() -> None:
    assert caption_of(*[spot(1, 1, 0.25)] * 2).heat_maps().max() == 0


def test_a_single_word_keeps_its_own_map() -> None:
    heat = caption_of(spot(1, 2, 0.2)).heat_maps()
    assert heat[0, 0, 0] == 1
    assert heat[0, 1, 2] == pytest.approx(0.4)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (700, 500), (1, 900), (900, 1)])
@pytest.mark.parametrize("words", [0, 1, 7])
def test_a_sheet_is_drawn_for_pictures_of_any_shape(height: int, width: int, words: int) -> None:
    attention = tuple(WordAttention(f"word{n}", spot(1, n % 4, 0.2)) for n in range(words))
    caption = Caption("A caption long enough that it needs more than one line on a sheet.", -1.0, 0.5, (), attention)
    sheet = draw(patchwork(1, height, width), caption)
    assert sheet.dtype == np.uint8
    assert sheet.ndim == 3
    assert sheet.min() < 64  # ink


def test_heat_is_drawn_where_the_word_looked() -> None:
    grey = np.full((240, 240, 3), 128, np.uint8)
    words = (WordAttention("left", spot(2, 0, 0.4)), WordAttention("right", spot(2, 3, 0.4)))
    sheet = draw(grey, Caption("Left right.", -1.0, 0.5, (), words))
    cells = np.split(sheet[-290:-40, 12:], [252, 504], axis=1)
    red = [cell[..., 0].astype(float) for cell in cells]
    assert red[1][:, :100].mean() > red[1][:, 140:230].mean() + 10
    assert red[2][:, 140:230].mean() > red[2][:, :100].mean() + 10


def test_equal_names_do_not_overwrite_each_other(tmp_path: Path) -> None:
    folder = SheetFolder(tmp_path / "new" / "sheets")
    paths = [folder.save(stem, patchwork(seed)) for seed, stem in enumerate(["a", "a", "A", "b", "a-2"])]
    assert [path.name for path in paths] == ["a.jpg", "a-2.jpg", "A-3.jpg", "b.jpg", "a-2-2.jpg"]
    means = [decode(path).mean(axis=(0, 1)).round().tolist() for path in paths]
    assert len({tuple(mean) for mean in means}) == 5


def test_a_picture_in_the_same_folder_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a photograph")
    for _ in range(2):
        assert SheetFolder(tmp_path).save("a", patchwork(1)).name == "a-2.jpg"
    assert (tmp_path / "a.jpg").read_bytes() == b"a photograph"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-2.jpg", "a.jpg"]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CaptionistError, match="another folder"):
        SheetFolder(tmp_path / "file")
