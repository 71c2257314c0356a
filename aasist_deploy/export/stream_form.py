"""The deployed form of a network for streams: a few frames of samples and a state in, a score out.

One call takes the samples of F frames, F being the hop. Its score is that of the window which ends
with the call, as if that window had been scored alone. Everything that windows share is computed
once and carried in the state; what is a window's own (the frames that see its edges, and the graph
head) is computed for it: `stream_geometry` says which is which.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from aasist_deploy.errors import UsageError
from aasist_deploy.export.inference_aasist import InferenceAasist
from aasist_deploy.export.inference_layers import Block2d, FixedConv
from aasist_deploy.export.stream_geometry import Convolution, Stage, StreamGeometry
from aasist_deploy.models import Aasist
from aasist_deploy.models.aasist import FREQUENCY_POOL
from aasist_deploy.models.residual import TIME_POOL

if TYPE_CHECKING:
    from aasist_deploy.export.inference_layers import TopK
    from aasist_deploy.export.stream_geometry import Level
    from aasist_deploy.models import Network


def stages_of(form: InferenceAasist) -> tuple[Stage, ...]:
    """The encoder's stages along time, read from its layers."""
    taps = form.front_end.filters.shape[-1]
    front = Stage(path=(Convolution(kernel=taps, padding=0),), pool=FREQUENCY_POOL)
    blocks = [block for block in form.encoder if isinstance(block, Block2d)]
    return (front, *map(_stage_of, blocks))


def _stage_of(block: Block2d) -> Stage:
    skip = block.conv_downsample
    return Stage(
        path=(_along_time(block.conv1), _along_time(block.conv2)),
        skip=() if skip is None else (_along_time(skip),),
        pool=TIME_POOL,
    )


def _along_time(conv: FixedConv) -> Convolution:
    return Convolution(kernel=conv.weight.shape[-1], padding=conv.padding[1])


def require_streaming(network: Network) -> None:
    """Refuse a network whose windows share nothing, or of which that is not known.

    Raises:
        UsageError: it cannot be scored as a stream.
    """
    if isinstance(network, Aasist):
        return
    reasons = {
        "RawNet2": "every step of its GRU depends on the whole window before it",
        "RawGAT-ST": "its two encoders would need two states, which is not written",
    }
    name = network.architecture
    reason = reasons.get(name, "nothing is known of how its outputs depend on time")
    raise UsageError(
        f"{name} cannot be exported for streams: {reason}.",
        fix="score each window alone: scan and stream do so with an ordinary model file",
    )


class StreamNetwork(nn.Module):
    """Samples of F frames and a state -> the score of the window that ends with them.

    Args:
        model: The trained network.
        method: Which exact form of graph pooling to write.
        window_samples: Samples of a window; None for the length it was trained on.

    Raises:
        UsageError: the network cannot be scored as a stream.
    """

    def __init__(self, model: Network, method: TopK, window_samples: int | None = None) -> None:
        super().__init__()
        require_streaming(model)
        assert isinstance(model, Aasist)
        self.form = InferenceAasist(model, method)
        self.blocks = [block for block in self.form.encoder if isinstance(block, Block2d)]
        self.pool_names = self.form.pool_names
        self.geometry = StreamGeometry(stages_of(self.form), window_samples or model.n_samples)
        self.state_shapes = self._state_shapes(model.config.filts[0] // FREQUENCY_POOL)

    @property
    def state_size(self) -> int:
        """Numbers in the state of one stream."""
        return sum(prod(shape) for shape in self.state_shapes)

    def forward(self, samples: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        """(B, F * frame_samples), (B, Q) -> score (B,), logits (B, 2), embedding, state, orders."""
        geometry = self.geometry
        carried = self._unpacked(state)
        kept: list[Tensor] = []  # the next state, in the order of `state_shapes`

        x = torch.cat([carried.pop(0), samples], dim=1)
        kept.append(_newest(x, geometry.levels[0].n_state))
        new = self.form.front_end(x)  # (B, 1, 23, columns)
        first: Tensor | None = None
        last: Tensor | None = None
        for number, (block, level) in enumerate(
            zip(self.blocks, geometry.levels[1:], strict=True), start=1
        ):
            spoiled = geometry.stages[number].n_spoiled
            x = torch.cat([carried.pop(0), new], dim=3)
            tail = _newest(x, level.n_state)
            kept.append(tail)
            taps = _taps(x, level)  # (B, C, 23, F, n_taps), one for each frame boundary
            delay = level.lag - geometry.boundary_lag
            if delay:  # complete sooner than those of deeper levels, for which they wait
                taps = torch.cat([carried.pop(0), taps], dim=3)
                kept.append(taps[:, :, :, -delay:])
                taps = taps[:, :, :, :-delay]
            taps = taps.movedim(3, 1).flatten(0, 1)  # (B * F, C, 23, n_taps)
            first = block(_beside(first, taps))
            last = (
                block(_beside(tail, last))[..., spoiled:] if geometry.n_lasts[number + 1] else None
            )
            new = block(x)[..., spoiled : -level.n_after or None]
        assert first is not None

        firsts = first.reshape(samples.shape[0], -1, *first.shape[1:])  # (B, F, C, 23, n_first)
        firsts = torch.cat([carried.pop(0), firsts], dim=1)
        kept.append(firsts[:, -geometry.boundary_lag :])
        inner = torch.cat([carried.pop(0), new], dim=3)
        kept.append(_newest(inner, geometry.n_inner - 1))
        own = firsts[:, -geometry.boundary_lag - 1]
        window = _beside(torch.cat([own, _newest(inner, geometry.n_inner)], dim=3), last)
        score, logits, embedding, *orders = self.form.from_frames(window)
        next_state = torch.cat([part.flatten(1) for part in kept], dim=1)
        return score, logits, embedding, next_state, *orders

    def _state_shapes(self, n_bands: int) -> tuple[tuple[int, ...], ...]:
        """The parts of one stream's state, as `forward` takes them."""
        geometry = self.geometry
        shapes: list[tuple[int, ...]] = [(geometry.levels[0].n_state,)]
        for block, level in zip(self.blocks, geometry.levels[1:], strict=True):
            n_channels = block.conv1.weight.shape[1]
            shapes.append((n_channels, n_bands, level.n_state))
            if delay := level.lag - geometry.boundary_lag:
                shapes.append((n_channels, n_bands, delay, level.n_taps))
        n_channels = self.blocks[-1].conv2.weight.shape[0]
        shapes.append((geometry.boundary_lag, n_channels, n_bands, geometry.n_first))
        shapes.append((n_channels, n_bands, geometry.n_inner - 1))
        return tuple(shapes)

    def _unpacked(self, state: Tensor) -> list[Tensor]:
        parts = torch.split(state, [prod(shape) for shape in self.state_shapes], dim=1)
        return [
            part if len(shape) == 1 else part.reshape(-1, *shape)
            for part, shape in zip(parts, self.state_shapes, strict=True)
        ]


def _taps(x: Tensor, level: Level) -> Tensor:
    """The columns at every frame boundary of a call: (B, C, F, T) -> (B, C, F, frames, n_taps)."""
    # Where the last boundary's column ends, from the end of x: the same for any number of frames.
    after = level.n_state - level.taps_at + level.columns_per_frame - 1
    return torch.stack(
        [
            x[..., level.taps_at + tap : -(after - tap) or None : level.columns_per_frame]
            for tap in range(level.n_taps)
        ],
        dim=-1,
    )


def _newest(x: Tensor, n: int) -> Tensor:
    return x[..., -n:] if n else x[..., :0]


def _beside(*parts: Tensor | None) -> Tensor:
    there = [part for part in parts if part is not None]
    return there[0] if len(there) == 1 else torch.cat(there, dim=3)
