"""Networks for dense prediction: an encoder and a decoder that the tasks share, and a small head per task.

Every shared layer is one module with a weight and a bias: it normalises its input by groups of channels (GroupNorm
without parameters: no running statistics, so runs can be stacked and evaluation is training's function), convolves it
and applies a ReLU. The order, norm before convolution, is our design.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import group_norm, interpolate, max_pool2d, max_unpool2d

from companion.train.stacked import StackedModel

GROUPS = 4  # of channels that are normalised together


class SharedLayer(nn.Module):
    """GroupNorm, 3 x 3 convolution, ReLU; the first layer of a network reads its images as they are.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        normalise: Whether the input is normalised.
        dtype: Of the parameters.
    """

    def __init__(self, inputs: int, outputs: int, *, normalise: bool = True, dtype: torch.dtype | None = None) -> None:
        """Build the convolution."""
        super().__init__()
        self.normalise = normalise
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, inputs, H, W]` to `[B, outputs, H, W]`."""
        convolved: Tensor = self.convolution(group_norm(x, GROUPS) if self.normalise else x)
        return convolved.relu()


class SceneModel(nn.Module):
    """What the networks have in common: images to class scores and one number per pixel.

    Attributes:
        encoder: Shared layers, from the image down.
        decoder: Shared layers, up again.
        heads: One for the classes and one for the number.
    """

    encoder: nn.ModuleList
    decoder: nn.ModuleList
    heads: nn.ModuleList

    def features(self, x: Tensor) -> Tensor:
        """Map images `[B, planes, H, W]` to what the heads read, `[B, C, H, W]`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images `[B, planes, H, W]` to class scores `[B, C, H, W]` and numbers `[B, H, W]`."""
        shared = self.features(x)
        return [self.heads[0](shared), self.heads[1](shared).squeeze(-3)]

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return weight and bias of every shared layer, from the image to the heads."""
        return [*self.encoder.parameters(), *self.decoder.parameters()]

    def layer_names(self) -> list[str]:
        """Return a short name for every shared layer, in the same order."""
        return [f"{part}{i + 1}" for part in ("encoder", "decoder") for i in range(len(getattr(self, part)))]

    def draw(self, generator: torch.Generator | None) -> None:
        """Draw all weights and biases uniform in plus or minus `1 / sqrt(fan_in)`, torch's default."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                bound = module.weight[0].numel() ** -0.5
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
                if module.bias is not None:
                    nn.init.uniform_(module.bias, -bound, bound, generator=generator)


def with_waves(x: Tensor, octaves: int) -> Tensor:
    r"""Put the sines and cosines of every plane beside it: Fourier features (Tancik et al. 2020, arXiv 2006.10739).

    .. math:: x, \quad \sin 2^k x, \quad \cos 2^k x, \quad k = 0, \dots, K - 1

    A narrow layer of ReLUs draws a sharp boundary between two colours or climates slowly; from waves it is a sum. These
    frequencies are our design, for planes of about unit variance.

    Args:
        x: Images `[B, planes, H, W]`.
        octaves: K.

    Returns:
        `[B, planes * (1 + 2 * K), H, W]`.

    Example:
        >>> with_waves(torch.full((1, 1, 1, 1), torch.pi / 2), 2).flatten().round(decimals=2).abs()
        tensor([1.5700, 1.0000, 0.0000, 0.0000, 1.0000])
    """
    waves = [wave(2**k * x) for k in range(octaves) for wave in (torch.sin, torch.cos)]
    return torch.cat([x, *waves], dim=-3)


class UNet(SceneModel):
    """A small U-Net: one layer per level down and up, halved by average pooling, doubled by repetition, with skips.

    Args:
        channels: Of every level, finest first; multiples of 4. Images need sides divisible by `2 ** (levels - 1)`.
        num_classes: Of the first task.
        planes: Of an image.
        octaves: Of the sines and cosines that the first layer sees beside every plane (`with_waves`). Default: none.
        generator: Source of the initial weights; `None` takes torch's global one.
        dtype: Of the parameters.

    Example:
        >>> model = UNet([8, 16, 16], num_classes=7)
        >>> [tuple(output.shape) for output in model(torch.zeros(2, 3, 16, 32))]
        [(2, 7, 16, 32), (2, 16, 32)]
        >>> model.layer_names()
        ['encoder1', 'encoder2', 'encoder3', 'decoder1', 'decoder2']
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        *,
        planes: int = 3,
        octaves: int = 0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Build the layers and draw their weights."""
        super().__init__()
        self.octaves = octaves
        down = [SharedLayer(planes * (1 + 2 * octaves), channels[0], normalise=False, dtype=dtype)]
        down += [SharedLayer(a, b, dtype=dtype) for a, b in pairwise(channels)]
        self.encoder = nn.ModuleList(down)
        upwards = list(pairwise(reversed(channels)))
        self.decoder = nn.ModuleList(SharedLayer(below + beside, beside, dtype=dtype) for below, beside in upwards)
        self.heads = nn.ModuleList(nn.Conv2d(channels[0], n, 1, dtype=dtype) for n in (num_classes, 1))
        self.draw(generator)

    def features(self, x: Tensor) -> Tensor:
        """Go down, then up again beside what was seen on the way."""
        seen: list[Tensor] = []
        x = with_waves(x, self.octaves)
        for layer in self.encoder:
            x = layer(x if not seen else nn.functional.avg_pool2d(seen[-1], 2))
            seen.append(x)
        for layer, beside in zip(self.decoder, reversed(seen[:-1]), strict=True):
            x = layer(torch.cat([interpolate(x, scale_factor=2, mode="nearest"), beside], dim=-3))
        return x


class SegNet(SceneModel):
    """An encoder-decoder of the size of SegNet (Badrinarayanan et al. 2017, arXiv 1511.00561) for the official data.

    13 layers down as in VGG-16 and 13 up, max pooling whose places are remembered for the way up, and a head of a
    3 x 3 and a 1 x 1 convolution per task: the role that SegNet with MTAN's attention has in the paper. Attention is
    left out (it is task-specific, so it is no shared layer), and the norm is GroupNorm: our design, 29 million
    parameters at the default widths. The paper's numbers cannot be expected to the digit.

    Args:
        num_classes: Of the first task.
        channels: Of every level. Default: SegNet's.
        depths: Layers of every level. Default: VGG-16's.
        generator: Source of the initial weights; `None` takes torch's global one.
        dtype: Of the parameters.
    """

    def __init__(
        self,
        num_classes: int,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        depths: Sequence[int] = (2, 2, 3, 3, 3),
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Build the layers and draw their weights."""
        super().__init__()
        self.depths = list(depths)
        widths = [3, *(c for c, d in zip(channels, depths, strict=True) for _ in range(d))]
        upwards = [channels[0], *widths[1:]]  # the layers of the decoder, last one first
        self.encoder = nn.ModuleList(
            SharedLayer(a, b, normalise=i > 0, dtype=dtype) for i, (a, b) in enumerate(pairwise(widths))
        )
        self.decoder = nn.ModuleList(SharedLayer(b, a, dtype=dtype) for a, b in reversed(list(pairwise(upwards))))
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels[0], channels[0], 3, padding=1, dtype=dtype),
                nn.Conv2d(channels[0], n, 1, dtype=dtype),
            )
            for n in (num_classes, 1)
        )
        self.draw(generator)

    def features(self, x: Tensor) -> Tensor:
        """Go down and remember where each maximum was; put it back there on the way up."""
        down, up, places = iter(self.encoder), iter(self.decoder), []
        for depth in self.depths:
            for _ in range(depth):
                x = next(down)(x)
            x, indices = max_pool2d(x, 2, return_indices=True)
            places.append(indices)
        for depth, indices in zip(reversed(self.depths), reversed(places), strict=True):
            x = max_unpool2d(x, indices, [2, 2])
            for _ in range(depth):
                x = next(up)(x)
        return x


class LoopedModel(StackedModel):
    """R stacked copies of a convolutional model, run one after the other.

    Same parameters, same results as `StackedModel`, whose `vmap` turns R convolutions into one with R groups. On a CPU
    that takes about as long on small tiles and twice as long on notebook 07's (`benchmarks/scene_models.py`), and
    SegNet's unpooling has no `vmap` at all.
    """

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the stacked parameters of the shared layers, `[R, *shape]`."""
        assert isinstance(self.stack, SceneModel)
        return self.stack.shared_parameters()

    def forward(self, x: Tensor) -> list[Tensor]:
        """Run every copy on its own input `[R, B, ...]`."""
        state = {name: p.unbind() for name, p in self.stack.named_parameters()}
        runs = [
            functional_call(
                self.stack,
                {name: rows[r] for name, rows in state.items()},
                (images.contiguous(memory_format=torch.channels_last),),  # a sixth faster on a CPU
            )
            for r, images in enumerate(x)
        ]
        return [torch.stack(outputs) for outputs in zip(*runs, strict=True)]
