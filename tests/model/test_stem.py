"""EfficientNet-Lite2 with its batch norms folded away, against one that has them and TensorFlow's padding."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from captionist.model.stem import OUTPUT_CHANNELS, EfficientNetLite2
from tests.model.checkpoints import LITE2_STAGES, lite2_weights

STRIDES = (1, 2, 2, 2, 1, 2, 1)


def same(x: Tensor, weight: Tensor, stride: int, groups: int) -> Tensor:
    """TensorFlow's SAME: the output has ceil(size / stride) rows, and an odd pixel of padding goes to the end."""
    kernel = weight.shape[-1]
    padding = []
    for size in (x.shape[3], x.shape[2]):
        outputs = (size + stride - 1) // stride
        total = max((outputs - 1) * stride + kernel - size, 0)
        padding += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, padding), weight, None, stride, groups=groups)


def reference(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    def conv(x: Tensor, name: str, norm: str, stride: int = 1, depthwise: bool = False) -> Tensor:
        y = same(x, weights[f"{name}.weight"], stride, x.shape[1] if depthwise else 1)
        mean, variance = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        return F.batch_norm(y, mean, variance, weights[f"{norm}.weight"], weights[f"{norm}.bias"], eps=1e-3)

    x = F.relu6(conv(x, "_conv_stem", "_bn0", 2))
    index = 0
    for (repeats, _, expansion, _), stage_stride in zip(LITE2_STAGES, STRIDES, strict=True):
        for repeat in range(repeats):
            block, stride = f"_blocks.{index}.", stage_stride if repeat == 0 else 1
            y = x
            if expansion > 1:
                y = F.relu6(conv(y, f"{block}_expand_conv", f"{block}_bn0"))
            y = F.relu6(conv(y, f"{block}_depthwise_conv", f"{block}_bn1", stride, depthwise=True))
            y = conv(y, f"{block}_project_conv", f"{block}_bn2")
            x = x + y if y.shape == x.shape and repeat > 0 else y
            index += 1
    return F.relu6(conv(x, "_conv_head", "_bn1"))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 47), (33, 96)])
def test_folded_norms_equal_batch_norms(height: int, width: int) -> None:
    weights = lite2_weights()
    stem = EfficientNetLite2()
    stem.load_imagenet(weights)
    pixels = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        features, expected = stem(pixels), reference(weights, pixels)
    assert features.shape == (2, OUTPUT_CHANNELS, -(-height // 32), -(-width // 32))
    assert expected.std() > 0.1  # the random network does not die out on the way
    assert torch.allclose(features, expected, rtol=1e-3, atol=1e-3)


def test_a_missing_tensor_and_a_wrong_shape_are_errors() -> None:
    weights = lite2_weights()
    with pytest.raises(KeyError, match="_bn2"):
        EfficientNetLite2().load_imagenet({name: w for name, w in weights.items() if name != "_blocks.3._bn2.weight"})
    with pytest.raises(RuntimeError, match="size mismatch"):
        EfficientNetLite2().load_imagenet(weights | {"_conv_head.weight": torch.zeros(1280, 100, 1, 1)})
