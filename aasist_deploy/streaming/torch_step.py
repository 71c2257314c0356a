"""A checkpoint as a model for streams, in PyTorch: the reference of exported ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aasist_deploy.contract import STREAM_SCHEMA, ModelContract, output_meanings
from aasist_deploy.engines.base import check_threads
from aasist_deploy.engines.parts import StreamStep

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


class TorchStep(StreamStep):
    """A checkpoint in PyTorch on the CPU, float32.

    Args:
        path: The checkpoint.
        config: Its model configuration, when nothing else says it.
        threads: Threads of PyTorch; global to the process, None leaves it alone.

    Raises:
        CheckpointError: the weights do not fit, or nothing says how they are configured.
        UsageError: the network cannot be scored as a stream.
    """

    backend = "torch"

    def __init__(
        self,
        path: Path,
        *,
        config: Mapping[str, Any] | None = None,
        threads: int | None = None,
    ) -> None:
        import torch

        from aasist_deploy.engines.torch import contract_fields
        from aasist_deploy.export.stream_export import SAMPLES, stream_contract
        from aasist_deploy.export.stream_form import StreamNetwork
        from aasist_deploy.models import load_checkpoint

        check_threads(threads)
        checkpoint = load_checkpoint(path, config)
        if threads is not None:
            torch.set_num_threads(threads)
        self._network = StreamNetwork(checkpoint.model, "topk").eval()
        layout = stream_contract(self._network)
        contract = ModelContract(
            **contract_fields(checkpoint),
            schema=STREAM_SCHEMA,
            n_samples=layout.window_samples,
            min_samples=layout.window_samples,
            input_name=SAMPLES,
            outputs=output_meanings(checkpoint.model.score),
            tools={"torch": torch.__version__},
            stream=layout,
        )
        super().__init__(contract, f"cpu, {torch.get_num_threads()} threads")

    def _run(
        self, samples: NDArray[np.float32], states: NDArray[np.float32]
    ) -> dict[str, NDArray[np.float32]]:
        import torch

        with torch.inference_mode():
            score, logits, embedding, state, *_ = self._network(
                torch.tensor(samples), torch.tensor(states)
            )
        return {
            "score": score.numpy().copy(),
            "logits": logits.numpy(),
            "embedding": embedding.numpy(),
            self.layout.state_output: state.numpy(),
        }

    def _close(self) -> None:
        del self._network
