"""What the backends share that open an exported `.onnx` file: names, pooling orders, failures."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from aasist_deploy.errors import AasistDeployError, ModelFileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from aasist_deploy.contract import ModelContract


@contextmanager
def failures_of(runtime: str, path: Path) -> Iterator[None]:
    """Turn what a runtime raises while it computes into one error.

    Raises:
        ModelFileError: the graph cannot be computed here, or not on these waves.
    """
    try:
        yield
    except AasistDeployError:
        raise
    except Exception as error:  # the exceptions of runtimes share no base but Exception
        reason = str(error).splitlines()[0][:400] if str(error) else type(error).__name__
        raise ModelFileError(
            f"{runtime} cannot compute {path}: {reason}",
            fix="a smaller batch needs less memory; otherwise export the checkpoint again",
        ) from error


def check_names(
    inputs: Mapping[str, Sequence[Any]],
    outputs: Sequence[str],
    contract: ModelContract,
    path: Path,
) -> None:
    """Refuse a contract that speaks of another input or other outputs than the graph has.

    Args:
        inputs: Input name -> shape, in which anything but a number is an axis of any length.
        outputs: Names of the graph's outputs.
        contract: What the file says of itself.
        path: The file, for messages.

    Raises:
        ModelFileError: they do not fit.
    """
    if list(inputs) != [contract.input_name] or not set(contract.outputs) <= set(outputs):
        raise ModelFileError(
            f"The contract in {path} says {contract.input_name} -> {', '.join(contract.outputs)}; "
            f"the graph has {', '.join(inputs)} -> {', '.join(outputs)}.",
            fix="export the checkpoint again",
        )
    n_samples = inputs[contract.input_name][-1]
    if isinstance(n_samples, int) and n_samples != contract.n_samples:
        raise ModelFileError(
            f"The contract in {path} says waves of {contract.n_samples or 'any number of'} "
            f"samples; the graph takes {n_samples}.",
            fix="export the checkpoint again",
        )


def kept_nodes(
    topk: Mapping[str, Any], orders: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[np.int64]]:
    """The observed values of graph pooling as the kept nodes, best first.

    Args:
        topk: The contract's `topk`.
        orders: Pool name -> (B, k) kept nodes, or (B, N) rank of every node, as `topk` says.

    Returns:
        Pool name -> (B, k) indices.
    """
    if topk["method"] == "topk":
        return {name: np.asarray(order, np.int64) for name, order in orders.items()}
    ratios: Mapping[str, float] = topk["ratios"]
    at_least: int = topk.get("at_least", 1)
    return {
        name: np.argsort(rank, axis=1)[:, : max(int(rank.shape[1] * ratios[name]), at_least)]
        for name, rank in orders.items()
    }
