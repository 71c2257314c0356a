"""What the geometry says of an encoder, against what PyTorch computes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv1d, max_pool1d

from aasist_deploy.errors import UsageError
from aasist_deploy.export.stream_geometry import Convolution, Stage, StreamGeometry

# The same sums in another order, in float64.
ATOL = 1e-12

AASIST = (
    Stage(path=(Convolution(kernel=129, padding=0),), pool=3),
    *[Stage(path=(Convolution(kernel=3, padding=1),) * 2, pool=3, skip=()) for _ in range(6)],
)


def convolutions(most: int) -> st.SearchStrategy[tuple[Convolution, ...]]:
    one = st.sampled_from([1, 3, 5]).map(lambda k: Convolution(kernel=k, padding=k // 2))
    return st.lists(one, min_size=1, max_size=most).map(tuple)


PADDED = st.builds(
    Stage,
    path=convolutions(3),
    pool=st.integers(2, 4),
    skip=st.none() | st.just(()) | convolutions(1),
)
VALID = st.builds(
    Stage,
    path=st.integers(1, 9).map(lambda k: (Convolution(kernel=k, padding=0),)),
    pool=st.integers(1, 3),
)
ENCODERS = st.tuples(VALID, PADDED, PADDED) | st.tuples(PADDED, PADDED) | st.tuples(VALID, PADDED)


class Encoder:
    """Stages with random weights, on one channel in float64."""

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        self.stages = stages
        random = torch.Generator().manual_seed(0)

        def weights(path: tuple[Convolution, ...]) -> list[Tensor]:
            return [
                torch.randn(1, 1, c.kernel, generator=random, dtype=torch.float64) for c in path
            ]

        self.weights = [(weights(s.path), weights(s.skip or ())) for s in stages]

    def __call__(self, wave: Tensor) -> Tensor:
        x = wave.view(1, 1, -1)
        for stage, (path, skip) in zip(self.stages, self.weights, strict=True):
            y = self._way(stage.path, path, x)
            if stage.skip is not None:
                y = y + self._way(stage.skip, skip, x)
            x = max_pool1d(y, stage.pool)
        return x.flatten()

    def _way(self, path: tuple[Convolution, ...], weights: list[Tensor], x: Tensor) -> Tensor:
        for conv, weight in zip(path, weights, strict=True):
            x = torch.sin(conv1d(x, weight, padding=conv.padding) + 0.5)
        return x


def geometry_of(stages: tuple[Stage, ...], window: int) -> StreamGeometry:
    try:
        return StreamGeometry(stages, window)
    except UsageError:
        assume(False)
        raise


@settings(max_examples=60, deadline=None)
@given(ENCODERS, st.integers(20, 400), st.integers(1, 4))
def test_inner_frames_of_any_encoder_are_those_of_a_long_encoding(
    stages: tuple[Stage, ...], window: int, start_frame: int
) -> None:
    geometry = geometry_of(stages, window)
    encoder = Encoder(stages)
    random = torch.Generator().manual_seed(1)
    start = start_frame * geometry.frame_samples
    more = 3 * sum(geometry.frame_reach) + 3 * geometry.frame_samples
    # Levels well above and below zero, so that padding with zeros shows.
    wave = 2 * torch.rand(start + window + more, generator=random, dtype=torch.float64) + 1
    alone = encoder(wave[start : start + window])
    assert len(alone) == geometry.n_frames

    lead = encoder(wave)[start_frame : start_frame + geometry.n_frames]
    differs = (alone - lead).abs() > ATOL
    inner = slice(geometry.n_first, geometry.n_frames - geometry.n_last)
    assert inner.stop - inner.start == geometry.n_inner
    assert not differs[inner].any()


def test_edge_frames_of_aasist_are_not_those_of_a_long_encoding() -> None:
    geometry, encoder = StreamGeometry(AASIST, 64_600), Encoder(AASIST)
    start = 2 * geometry.frame_samples
    random = torch.Generator().manual_seed(1)
    wave = 2 * torch.rand(start + 80_000, generator=random, dtype=torch.float64) + 1
    alone = encoder(wave[start : start + geometry.window_samples])
    differs = (alone - encoder(wave)[2:31]).abs() > ATOL
    assert differs.nonzero().flatten().tolist() == [0, 28]


@settings(max_examples=40, deadline=None)
@given(ENCODERS, st.integers(20, 400))
def test_a_frame_sees_its_reach_and_nothing_beyond(stages: tuple[Stage, ...], window: int) -> None:
    geometry = geometry_of(stages, window)
    left, right = geometry.frame_reach
    frame = -(-left // geometry.frame_samples) + 1
    at = frame * geometry.frame_samples
    n_samples = at + right + 1 + 2 * geometry.frame_samples
    wave = torch.zeros(n_samples, dtype=torch.float64, requires_grad=True)
    # Every way through a max-pool counts: means in place of maxima have the same reach.
    x: Tensor = wave.view(1, 1, -1)
    for stage in stages:
        y = x
        for conv in stage.path:
            ones = torch.ones(1, 1, conv.kernel, dtype=torch.float64)
            y = conv1d(y, ones, padding=conv.padding)
        if stage.skip is not None:
            z = x
            for conv in stage.skip:
                ones = torch.ones(1, 1, conv.kernel, dtype=torch.float64)
                z = conv1d(z, ones, padding=conv.padding)
            y = y + z
        x = torch.nn.functional.avg_pool1d(y, stage.pool)
    (gradient,) = torch.autograd.grad(x.flatten()[frame], wave)
    seen = gradient.nonzero().flatten()
    assert (int(seen[0]), int(seen[-1])) == (at - left, at + right)


def test_geometry_of_aasist_is_the_measured_one() -> None:
    geometry = StreamGeometry(AASIST, 64_600)
    assert geometry.lengths == (64_600, 21_490, 7_163, 2_387, 795, 265, 88, 29)
    assert geometry.frame_samples == 2_187
    assert (geometry.n_first, geometry.n_inner, geometry.n_last) == (1, 27, 1)
    assert geometry.frame_reach == (2_184, 4_498)
    assert geometry.lead_samples == 1_010
    assert geometry.first_call_frames == 30


@pytest.mark.parametrize(
    ("stages", "window", "reason"),
    [
        (AASIST, 8_000, "nothing that windows could share"),
        ((Stage(path=(Convolution(kernel=5, padding=1),), pool=2),), 64, "neither 0 nor half"),
        (
            (Stage(path=(Convolution(kernel=3, padding=0),), pool=2, skip=()),),
            64,
            "two ways of different lengths",
        ),
    ],
)
def test_an_encoder_for_which_the_scheme_does_not_hold_is_refused(
    stages: tuple[Stage, ...], window: int, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        StreamGeometry(stages, window)
