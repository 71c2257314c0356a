"""What others run today, as engines for `aasist_deploy.bench`: eager code, a plain export.

Their files do not describe themselves, so the contract is the published models'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aasist_deploy.contract import BONA_FIDE, ModelContract
from aasist_deploy.engines.base import BaseEngine, Waves
from benchmarks.common import N_SAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


class _Baseline(BaseEngine):
    """An engine without a file that describes itself."""

    def __init__(self, backend: str, device: str, max_batch: int | None) -> None:
        self.backend = backend
        contract = ModelContract(
            architecture="AASIST",
            config={},
            sample_rate_hz=16_000,
            n_samples=N_SAMPLES,
            min_samples=N_SAMPLES,
            outputs={"logits": "spoof, bona fide"},
            checkpoint_sha256="0" * 64,
        )
        super().__init__(contract, device, max_batch)

    def _close(self) -> None:
        pass


class PublishedEager(_Baseline):
    """The published structure in eager PyTorch."""

    def __init__(self, path: Path, backend: str, threads: int, max_batch: int | None) -> None:
        import torch

        from aasist_deploy.models import load_checkpoint
        from benchmarks.published_structure import published_or_trained

        torch.set_num_threads(threads)
        self._network = published_or_trained(load_checkpoint(path).model)
        super().__init__(backend, f"cpu, {threads} threads", max_batch)

    def _run(self, waves: Waves) -> dict[str, NDArray[np.float32]]:
        import torch

        with torch.inference_mode():
            logits = self._network(torch.from_numpy(waves))[1].numpy()
        return {"score": logits[:, BONA_FIDE].copy(), "logits": logits}


class PlainExport(_Baseline):
    """A file that `torch.onnx.export` wrote of it, in ONNX Runtime with the settings of ours.

    A pool of threads that spins after its call would take the cores from the next variant.
    """

    def __init__(self, path: Path, backend: str, threads: int, max_batch: int | None) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        super().__init__(backend, f"CPUExecutionProvider, {threads} threads", max_batch)

    def _run(self, waves: Waves) -> dict[str, NDArray[np.float32]]:
        logits = self._session.run(["logits"], {"wave": waves})[0]
        return {"score": logits[:, BONA_FIDE].copy(), "logits": logits}


def open_published(
    path: Path, *, backend: str, threads: int, max_batch: int | None = None
) -> PublishedEager:
    """The published structure with the weights of a checkpoint."""
    return PublishedEager(path, backend, threads, max_batch)


def open_plain(
    path: Path, *, backend: str, threads: int, max_batch: int | None = None
) -> PlainExport:
    """A plain export."""
    return PlainExport(path, backend, threads, max_batch)
