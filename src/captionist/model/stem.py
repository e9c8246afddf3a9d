"""EfficientNet-Lite2 as the convolutional stem of a hybrid ViT (Tan & Le 2019; the Lite variant: ReLU6, no squeeze).

Batch normalisation is folded into the convolutions when the weights are read. Its statistics stay those of ImageNet,
since a captioning batch is too small to estimate them, and training is a third cheaper.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OUTPUT_CHANNELS = 1280
STRIDE = 32
# RGB in 0..1: (x * 255 - 127) / 128, the statistics EfficientNet-Lite was trained with.
MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3
_BATCH_NORM_EPSILON = 1e-3


@dataclass(frozen=True)
class _Stage:
    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STEM_CHANNELS = 32
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(3, 3, 2, 6, 24),
    _Stage(3, 5, 2, 6, 48),
    _Stage(4, 3, 2, 6, 88),
    _Stage(4, 5, 1, 6, 120),
    _Stage(5, 5, 2, 6, 208),
    _Stage(1, 3, 1, 6, 352),
)


class _Conv(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding, which is uneven for a stride of two."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, depthwise: bool = False) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=inputs if depthwise else 1, bias=True)

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if kernel == 1:
            return super().forward(input)
        padding = kernel // 2
        if stride > 1:
            (top, bottom), (left, right) = (
                (total // 2, total - total // 2)
                for total in (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in input.shape[-2:])
            )
            input, padding = F.pad(input, (left, right, top, bottom)), 0
        if self.groups > 1 and input.device.type == "cpu":
            # On CPUs, a depthwise convolution and its gradients take three times as long in bf16 as in float32.
            with torch.autocast("cpu", enabled=False):
                return F.conv2d(input.float(), self.weight, self.bias, stride, padding, 1, self.groups)
        return F.conv2d(input, self.weight, self.bias, stride, padding, 1, self.groups)


class _InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = _Conv(inputs, hidden) if expansion > 1 else None
        self.depthwise = _Conv(hidden, hidden, kernel, stride, depthwise=True)
        self.project = _Conv(hidden, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = x if self.expand is None else F.relu6(self.expand(x))
        hidden = self.project(F.relu6(self.depthwise(hidden)))
        return x + hidden if self.residual else hidden


class EfficientNetLite2(nn.Module):
    """Pixels float [B, 3, H, W] -> features float [B, 1280, H/32, W/32]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Conv(3, _STEM_CHANNELS, 3, 2)
        blocks, inputs = [], _STEM_CHANNELS
        for stage in _STAGES:
            for index in range(stage.repeats):
                stride = stage.stride if index == 0 else 1
                blocks.append(_InvertedResidual(inputs, stage.channels, stage.kernel, stride, stage.expansion))
                inputs = stage.channels
        self.blocks = nn.ModuleList(blocks)
        self.head = _Conv(inputs, OUTPUT_CHANNELS)

    def forward(self, pixels: Tensor) -> Tensor:
        x = F.relu6(self.stem(pixels))
        for block in self.blocks:
            x = block(x)
        return F.relu6(self.head(x))

    def load_imagenet(self, weights: dict[str, Tensor]) -> None:
        """Take weights named as in the package efficientnet-lite-pytorch, folding the batch norms away.

        Raises KeyError if a tensor is missing and RuntimeError if a shape differs.
        """

        def fold(conv: _Conv, name: str, norm: str) -> None:
            scale = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + _BATCH_NORM_EPSILON)
            conv.load_state_dict(
                {
                    "weight": weights[f"{name}.weight"] * scale[:, None, None, None],
                    "bias": weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale,
                }
            )

        fold(self.stem, "_conv_stem", "_bn0")
        for index, block in enumerate(self.blocks):
            assert isinstance(block, _InvertedResidual)
            prefix = f"_blocks.{index}."
            if block.expand is not None:
                fold(block.expand, f"{prefix}_expand_conv", f"{prefix}_bn0")
            fold(block.depthwise, f"{prefix}_depthwise_conv", f"{prefix}_bn1")
            fold(block.project, f"{prefix}_project_conv", f"{prefix}_bn2")
        fold(self.head, "_conv_head", "_bn1")
