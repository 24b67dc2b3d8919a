"""EfficientNet-lite0 from its checkpoint -> a program of torch.export: efficientnet_torch.py OUT.

    OUT/efficientnet.pt2     image [N, 3, 224, 224], RGB, (pixel - 127) / 128 -> logits [N, 1000] of ImageNet's classes

Tan and Le 2019, EfficientNet (arXiv:1905.11946), table 1, in the lite form: ReLU6 in place of swish, no
squeeze-and-excitation, stem and head of fixed width. The modules have the names that the checkpoint gives them; its
pickle is read and never run. Needs PyTorch.
"""

import sys
from pathlib import Path

import torch
from fetch import fetch
from torch import Tensor, nn

from foretell.model.pickles.checkpoint import read_checkpoint

SIDE = 224
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip
"""Repeats, kernel, stride of the first, widening, channels."""


class Same(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: the odd pixel to the right and below."""

    def forward(self, x: Tensor) -> Tensor:
        """Pad and convolve."""
        stride, size, side = self.stride[0], self.kernel_size[0], x.shape[-1]
        missing = max((-(-side // stride) - 1) * stride + size - side, 0)
        before, after = missing // 2, missing - missing // 2
        return super().forward(nn.functional.pad(x, (before, after, before, after)))


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation as TensorFlow trained it."""
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """Inverted bottleneck: widen, filter each channel, narrow."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, widening: int) -> None:
        super().__init__()
        wide = inside * widening
        self.widens, self.shortcut = widening != 1, stride == 1 and inside == outside
        if self.widens:
            self._expand_conv, self._bn0 = Same(inside, wide, 1, bias=False), norm(wide)
        self._depthwise_conv = Same(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = norm(wide)
        self._project_conv, self._bn2 = Same(wide, outside, 1, bias=False), norm(outside)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        inner = nn.functional.relu6(self._bn0(self._expand_conv(x))) if self.widens else x
        inner = nn.functional.relu6(self._bn1(self._depthwise_conv(inner)))
        inner = self._bn2(self._project_conv(inner))
        return inner + x if self.shortcut else inner


class EfficientNetLite0(nn.Module):
    """The whole network."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = Same(3, 32, 3, 2, bias=False), norm(32)
        blocks, channels = [], 32
        for repeats, kernel, stride, widening, outside in STAGES:
            for repeat in range(repeats):
                blocks.append(Block(channels, outside, kernel, 1 if repeat else stride, widening))
                channels = outside
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = Same(channels, 1280, 1, bias=False), norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return logits."""
        x = nn.functional.relu6(self._bn0(self._conv_stem(image)))
        for block in self._blocks:
            x = block(x)
        x = nn.functional.relu6(self._bn1(self._conv_head(x)))
        return {"logits": self._fc(x.mean((2, 3)))}


def export(out: Path) -> Path:
    """Write efficientnet.pt2; return its path."""
    (file,) = fetch(out, "efficientnet-lite0-57934424.pth")
    network = EfficientNetLite0()
    weights = {name: torch.tensor(array) for name, array in read_checkpoint(file.read_bytes()).items()}
    network.load_state_dict(weights, strict=True)
    rows = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(network.eval(), (torch.zeros(2, 3, SIDE, SIDE),), dynamic_shapes=rows)
    path = out / "efficientnet.pt2"
    torch.export.save(program, path)
    return path


if __name__ == "__main__":
    export(Path(sys.argv[1]))
