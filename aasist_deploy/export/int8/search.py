"""`choose_layers`: as many int8 layers as the gate allows, the most arithmetic for the least drift.

1. Each layer is quantized alone, and the scores of some calibration clips are compared with fp32:
   its damage is the mean square of the differences.
2. Layers are sorted by damage per multiplication saved, the cheapest first.
3. The longest beginning of that order with which the gate holds is found by halving.
4. The layers left are tried one by one on top of it, each kept if the gate still holds.

Every step is deterministic. Before all clips of the gate are scored, those that differed most so
far are, and a set that fails on them is given up.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.errors import CheckFailed
from aasist_deploy.export.int8.quantizing import quantized
from aasist_deploy.export.precision.gate import compare_measured, stress_waves
from aasist_deploy.export.precision.measuring import Measured, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    from aasist_deploy.contract import ModelContract
    from aasist_deploy.export.int8.calibration import CalibrationAudio
    from aasist_deploy.export.int8.layers import Layer
    from aasist_deploy.export.precision import GateAudio, GateLimits, GateReport

# Calibration clips on which each layer is tried alone, half of each class where that is known.
N_PROBES: Final = 16
_N_WORST: Final = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LayerDamage:
    """What one layer alone in int8 does to scores.

    Attributes:
        layer: The layer.
        mean_square: Mean square of the differences of the scores of the probes.
        largest: Largest of these differences.
        int8: Whether the layer is int8 in the result.
    """

    layer: Layer
    mean_square: float
    largest: float
    int8: bool = False


@dataclass(frozen=True, slots=True)
class Int8Choice:
    """Layers with which the gate holds.

    Attributes:
        layers: They, in the order of the graph.
        damages: Each layer alone, in the order in which they were added; empty without a search.
        report: What the gate found; None where nothing was measured.
        n_gates: How often the gate was measured in full.
    """

    layers: tuple[Layer, ...]
    damages: tuple[LayerDamage, ...] = ()
    report: GateReport | None = None
    n_gates: int = 0


def choose_layers(
    model: onnx.ModelProto,
    contract: ModelContract,
    layers: Sequence[Layer],
    ranges: Mapping[str, tuple[float, float]],
    calibration: CalibrationAudio,
    audio: GateAudio,
    *,
    limits: GateLimits,
    symmetric: bool = False,
    per_clip: Mapping[str, float] | None = None,
    search: bool = True,
    threads: int | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Int8Choice:
    """The layers that become int8.

    Args:
        model: The fp32 graph.
        contract: Its contract.
        layers: Those that may be.
        ranges: Of the values they read.
        calibration: Each layer is tried alone on some of its clips.
        audio: What the gate measures on.
        limits: What is accepted.
        symmetric: As in `quantized`.
        per_clip: As in `quantized`.
        search: False: all layers, measured once.
        threads: Threads of ONNX Runtime.
        on_step: Called with a sentence before each measurement.

    Raises:
        CheckFailed: the gate holds with no layer in int8, or not with all where `search` is False.
    """
    say = on_step or (lambda text: log.info("%s", text))
    run = _Run(
        model, contract, ranges, audio, limits, threads, symmetric=symmetric, per_clip=per_clip
    )
    say("scoring the gate's clips in fp32")
    run.begin()
    in_order = tuple(layers)
    if not search:
        say(f"scoring the gate's clips with {len(in_order)} layers in int8")
        report = run.gate(in_order)
        if report is None:
            raise _failed(run.last, "all layers")
        return Int8Choice(in_order, (), report, run.n_gates)
    damages = _damages(run, in_order, calibration.waves[_probes(calibration)], say)
    ordered = [damage.layer for damage in damages]
    held, best = _longest_beginning(run, ordered, say)
    for number, layer in enumerate(ordered[len(held) + 1 :], 1):
        say(f"trying {layer.value} besides ({number} of {len(ordered) - len(held) - 1})")
        report = run.gate([*held, layer])
        if report is not None:
            held, best = [*held, layer], report
    if best is None:
        raise _failed(run.last, "any layer")
    chosen = tuple(layer for layer in in_order if layer in held)
    marked = tuple(replace(damage, int8=damage.layer in held) for damage in damages)
    return Int8Choice(chosen, marked, best, run.n_gates)


class _Run:
    """One gate: the fp32 scores, and what graphs with int8 layers give beside them."""

    def __init__(
        self,
        model: onnx.ModelProto,
        contract: ModelContract,
        ranges: Mapping[str, tuple[float, float]],
        audio: GateAudio,
        limits: GateLimits,
        threads: int | None,
        *,
        symmetric: bool,
        per_clip: Mapping[str, float] | None,
    ) -> None:
        self.model, self.contract, self.ranges = model, contract, ranges
        self.audio, self.limits, self.threads = audio, limits, threads
        self.symmetric, self.per_clip = symmetric, per_clip
        self.synthetic = stress_waves(audio.waves.shape[1])
        self.n_gates = 0
        self.reference: Measured
        self.reference_stress: NDArray[np.float64]
        self.worst: NDArray[np.intp] = np.zeros(0, np.intp)
        self.last: GateReport

    def begin(self) -> None:
        self.reference = self.measured((), self.audio.waves)
        self.reference_stress = self.measured((), self._stress).scores

    def gate(self, layers: Sequence[Layer]) -> GateReport | None:
        """The report where the gate holds; None where it does not, and `last` says why."""
        if len(self.worst):
            gaps = np.abs(
                self.measured(layers, self.audio.waves[self.worst]).scores
                - self.reference.scores[self.worst]
            )
            if not gaps.max() <= self.limits.difference:
                log.info("%d layers: the worst clips differ by %.3g", len(layers), gaps.max())
                return None
        self.n_gates += 1
        lower = self.measured(layers, self.audio.waves)
        stress = np.abs(self.measured(layers, self._stress).scores - self.reference_stress)
        self.last = compare_measured(
            self.reference,
            lower,
            self.audio,
            self.limits,
            stress=dict(zip(self.synthetic, stress.tolist(), strict=True)),
        )
        gaps = np.nan_to_num(np.abs(lower.scores - self.reference.scores), nan=np.inf)
        self.worst = np.argsort(-gaps, kind="stable")[:_N_WORST]
        log.info("%d layers: %s", len(layers), "; ".join(self.last.breaches) or "the gate holds")
        return self.last if self.last.holds else None

    def measured(self, layers: Sequence[Layer], waves: NDArray[np.float32]) -> Measured:
        graph = quantized(
            self.model, layers, self.ranges, symmetric=self.symmetric, per_clip=self.per_clip
        )
        return measure(graph, self.contract, waves, threads=self.threads)

    @property
    def _stress(self) -> NDArray[np.float32]:
        return np.stack(list(self.synthetic.values()))


def _damages(
    run: _Run, layers: Sequence[Layer], probes: NDArray[np.float32], say: Callable[[str], None]
) -> tuple[LayerDamage, ...]:
    """Each layer alone on the probes, by damage per multiplication."""
    say(f"scoring {len(probes)} calibration clips in fp32")
    exact = run.measured((), probes).scores
    found = []
    for number, layer in enumerate(layers, 1):
        say(f"what {layer.value} does in int8 ({number} of {len(layers)})")
        gaps = np.nan_to_num(np.abs(run.measured([layer], probes).scores - exact), nan=np.inf)
        found.append(LayerDamage(layer, float(np.mean(gaps**2)), float(gaps.max())))
        log.info("%s: mean square %.3g, largest %.3g", layer.value, *_figures(found[-1]))
    return tuple(sorted(found, key=lambda one: one.mean_square / one.layer.share))


def _figures(damage: LayerDamage) -> tuple[float, float]:
    return damage.mean_square, damage.largest


def _longest_beginning(
    run: _Run, ordered: list[Layer], say: Callable[[str], None]
) -> tuple[list[Layer], GateReport | None]:
    """As many of the first layers as hold, found by halving; all of them are tried first."""
    holds, fails, best = 0, len(ordered) + 1, None
    n_layers = len(ordered)
    while fails - holds > 1:
        say(f"scoring the gate's clips with {n_layers} of {len(ordered)} layers in int8")
        report = run.gate(ordered[:n_layers])
        if report is None:
            fails = n_layers
        else:
            holds, best = n_layers, report
        n_layers = (holds + fails) // 2
    return ordered[:holds], best


def _probes(calibration: CalibrationAudio) -> NDArray[np.intp]:
    """Clips spread over the calibration audio, half of each class where classes are known."""
    truth = calibration.bona_fide
    if truth is None:
        return _spread(np.arange(len(calibration.waves)), N_PROBES)
    half = N_PROBES // 2
    return np.concatenate([_spread(np.flatnonzero(truth == one), half) for one in (True, False)])


def _spread(indices: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    if len(indices) <= most:
        return indices
    return indices[np.linspace(0, len(indices) - 1, most).astype(np.intp)]


def _failed(report: GateReport, which: str) -> CheckFailed:
    return CheckFailed(
        f"int8 does not hold on {report.n_clips} clips with {which} in it: "
        f"{'; '.join(report.breaches)}.",
        fix="use fp32, or bf16 on a CPU that has it (no file of its own: --backend openvino "
        "--precision bf16); or accept more with --max-difference, --min-rank-correlation or "
        "--max-flips",
    )
