"""`choose_islands`: the islands of the rule, and more of them until the gate holds.

While the gate does not hold, the clips that differ most are scored once for each group of nodes
that is still low (a layer of the network), with that group in fp32. A group with which these clips
hold is moved, the smallest of such groups first; where there is none, the one that brings them
nearest. Then all clips are scored again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.errors import CheckFailed
from aasist_deploy.export.precision.emulation import LARGEST, emulated, low_values
from aasist_deploy.export.precision.formats import at_layer, low_format
from aasist_deploy.export.precision.gate import (
    GateAudio,
    GateLimits,
    GateReport,
    compare_measured,
    stress_waves,
)
from aasist_deploy.export.precision.islands import bridged, rule_islands
from aasist_deploy.export.precision.lowering import float_nodes, lower_precision
from aasist_deploy.export.precision.measuring import Measured, measure, open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import onnx
    from numpy.typing import NDArray

    from aasist_deploy.contract import ModelContract

# Clips on which groups are compared. More would cost a score for each group and clip.
_N_WORST: Final = 8
_PRODUCTS: Final = frozenset({"Conv", "Gemm", "MatMul"})
_BETWEEN: Final = "(between layers)"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """Islands with which the gate holds, or which were given.

    Attributes:
        islands: Node -> why it keeps fp32, in the order of the graph.
        moved: Groups moved to fp32 because the gate did not hold, with what it said before.
        report: What the gate found with these islands; None where nothing was measured.
    """

    islands: dict[str, str]
    moved: tuple[tuple[str, str], ...] = ()
    report: GateReport | None = None


def given_islands(model: onnx.ModelProto, precision: str, extra: Iterable[str]) -> dict[str, str]:
    """The islands of the rule and the nodes asked for -> why, in the order of the graph.

    Args:
        model: The fp32 graph.
        precision: "fp16" or "bf16".
        extra: Names of further nodes.
    """
    rule = rule_islands(model, precision)
    asked = dict.fromkeys(extra, "asked for")
    return {
        n: rule.get(n, asked.get(n, "between islands")) for n in bridged(model, {**rule, **asked})
    }


def choose_islands(
    model: onnx.ModelProto,
    contract: ModelContract,
    precision: str,
    audio: GateAudio,
    *,
    limits: GateLimits | None = None,
    extra: Iterable[str] = (),
    search: bool = True,
    threads: int | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Choice:
    """The islands with which a graph of lower precision holds the gate.

    Args:
        model: The fp32 graph.
        contract: Its contract.
        precision: "fp16" or "bf16".
        audio: What it is measured on.
        limits: What is accepted; `GateLimits.of(precision)` by default.
        extra: Nodes that keep fp32 from the beginning, besides those of the rule.
        search: Move groups to fp32 while the gate does not hold; False: measure once.
        threads: Threads of ONNX Runtime.
        on_step: Called with a sentence before each measurement.

    Raises:
        CheckFailed: the gate does not hold, and no group of low nodes is left to move.
    """
    run = _Run(model, contract, precision, audio, limits or GateLimits.of(precision), threads)
    say = on_step or (lambda text: log.info("%s", text))
    say("scoring the gate's clips in fp32")
    run.begin()
    islands = given_islands(model, precision, extra)
    moved: list[tuple[str, str]] = []
    while True:
        say(f"scoring the gate's clips with {len(islands)} nodes in fp32")
        lower, report = run.gate(islands)
        if report.holds:
            return Choice(islands, tuple(moved), report)
        groups = _groups(model, islands)
        if not search or not groups:
            tried = f", with {', '.join(name for name, _ in moved)} in fp32" if moved else ""
            raise CheckFailed(
                f"{precision} does not hold on {report.n_clips} clips{tried}: "
                f"{'; '.join(report.breaches)}.",
                fix="accept more with --max-difference or --max-flips, keep more in fp32 with "
                "--fp32-nodes, or use --precision fp32",
            )
        worst = run.worst(lower)
        say(f"{report.breaches[0]}; looking for the layer that causes it among {len(groups)}")
        name = _guiltiest(run, islands, groups, worst)
        moved.append((name, "; ".join(report.breaches)))
        log.info("%s moves to fp32: %s", name, moved[-1][1])
        reasons = islands | dict.fromkeys(groups[name], f"gate: {name}")
        islands = {n: reasons.get(n, "between islands") for n in bridged(model, reasons)}


class _Run:
    """One gate: the fp32 scores, and what graphs of lower precision give beside them."""

    def __init__(
        self,
        model: onnx.ModelProto,
        contract: ModelContract,
        precision: str,
        audio: GateAudio,
        limits: GateLimits,
        threads: int | None,
    ) -> None:
        self.model, self.contract, self.precision = model, contract, precision
        self.form = low_format(precision)
        self.audio, self.limits, self.threads = audio, limits, threads
        self.synthetic = stress_waves(audio.waves.shape[1])
        self.reference: Measured
        self.reference_stress: NDArray[np.float64]

    def begin(self) -> None:
        self.reference = self._measured(self.model, self.audio.waves)
        self.reference_stress = self._measured(self.model, self._stress).scores

    def gate(self, islands: dict[str, str]) -> tuple[Measured, GateReport]:
        low = lower_precision(self.model, self.precision, islands)
        graph = emulated(low, self.form)
        lower = self._measured(graph, self.audio.waves)
        gaps = np.abs(self._measured(graph, self._stress).scores - self.reference_stress)
        report = compare_measured(
            self.reference,
            lower,
            self.audio,
            self.limits,
            stress=dict(zip(self.synthetic, gaps.tolist(), strict=True)),
            largest=self._largest(low, [*self._stress, *self.audio.waves[:_N_WORST]]),
        )
        return lower, report

    def worst(self, lower: Measured) -> NDArray[np.intp]:
        """The clips that differ most; those that are not finite first."""
        differences = np.abs(self.reference.scores - lower.scores)
        return np.argsort(-np.nan_to_num(differences, nan=np.inf))[:_N_WORST]

    def difference(self, islands: list[str], clips: NDArray[np.intp]) -> float:
        """Largest difference on these clips; infinite when a score is not finite."""
        low = lower_precision(self.model, self.precision, islands)
        scores = self._measured(emulated(low, self.form), self.audio.waves[clips]).scores
        gap = np.abs(scores - self.reference.scores[clips])
        return float(np.nan_to_num(gap, nan=np.inf).max())

    @property
    def _stress(self) -> NDArray[np.float32]:
        return np.stack(list(self.synthetic.values()))

    def _measured(self, model: onnx.ModelProto, waves: NDArray[np.float32]) -> Measured:
        return measure(model, self.contract, waves, threads=self.threads)

    def _largest(self, low: onnx.ModelProto, waves: list[Any]) -> dict[str, float]:
        names = low_values(low, self.form)
        if not names:
            return {}
        session = open_session(emulated(low, self.form, probe=True), [LARGEST], self.threads)
        found = [session.run([LARGEST], {self.contract.input_name: w[None]})[0] for w in waves]
        return dict(zip(names, np.max(found, axis=0).tolist(), strict=True))


def _groups(model: onnx.ModelProto, islands: dict[str, str]) -> dict[str, list[str]]:
    """Layer -> its low nodes; only layers in which low precision saves products of matrices."""
    groups: dict[str, list[str]] = {}
    heavy = set()
    for node in float_nodes(model):
        if node.name not in islands:
            group = group_of(node.name)
            groups.setdefault(group, []).append(node.name)
            heavy |= {group} if node.op_type in _PRODUCTS else set()
    return groups if heavy else {}


def group_of(node_name: str) -> str:
    """The layer of the network that is moved as one: `encoder.0` of `encoder.0.conv1/Conv`."""
    parts = at_layer(node_name).split(".")
    return ".".join(parts[:2] if parts[1:] and parts[1].isdigit() else parts[:1]) or _BETWEEN


def _guiltiest(
    run: _Run,
    islands: dict[str, str],
    groups: dict[str, list[str]],
    worst: NDArray[np.intp],
) -> str:
    """The smallest group with which the worst clips hold, or the one that helps most.

    The last groups of a network are the small ones: its maps shrink on the way.
    """
    found = {}
    for name in reversed(groups):
        found[name] = run.difference(bridged(run.model, [*islands, *groups[name]]), worst)
        log.info("with %s in fp32 the worst clips differ by %.3g", name, found[name])
    holding = [name for name, gap in found.items() if gap <= run.limits.difference]
    return holding[0] if holding else min(found, key=lambda name: found[name])
