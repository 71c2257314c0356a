"""Fixtures that several test folders use."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
from collections import Counter
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings

from aasist_deploy.contract import ModelContract
from aasist_deploy.engines.base import BaseEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from aasist_deploy.models import Checkpoint

REPOSITORY = Path(__file__).resolve().parents[1]

# docs/security.md says how it is run. Ten seconds of one example is a hang, also beside other work.
settings.register_profile(
    "fuzz", max_examples=int(os.environ.get("FUZZ_EXAMPLES", "5000")), deadline=10_000
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, the tests of each in their order.

    The processes of a run take files in turn: a long one at the end would leave the others idle.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish() -> None:
    """Networks that tests run themselves run as those of an engine do."""
    if "torch" in sys.modules:
        from aasist_deploy.models import keep_freed_memory

        keep_freed_memory()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published weights, real audio and reference outputs beside the checkout."""
    path = REPOSITORY.parent / "shared"
    if not (path / "golden").is_dir():
        pytest.skip("needs the published weights and ASVspoof audio in ../shared")
    return path


@pytest.fixture(scope="session")
def published_checkpoint(shared: Path) -> Callable[[str], Path]:
    """Name of a published model -> its weights."""
    return lambda name: shared / "models" / "clovaai" / f"{name}.pth"


@pytest.fixture(scope="session")
def made_once(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Callable[[Path], object]], Path]:
    """(name, what makes the file) -> a file that one process of this run of tests makes for all."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"
    locks = folder / "locks"
    locks.mkdir(parents=True, exist_ok=True)

    def get(name: str, make: Callable[[Path], object]) -> Path:
        path = folder / name
        with (locks / name).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                make(path)
        return path

    return get


GOLDEN = ("RawGAT-ST", "RawNet2-small")  # random weights, with reference outputs


@pytest.fixture(scope="session")
def golden_checkpoint(shared: Path) -> Callable[[str], Checkpoint]:
    """Name of a network in ../shared/golden -> its checkpoint of random weights."""
    from aasist_deploy.models import load_checkpoint, read_config

    def get(name: str) -> Checkpoint:
        folder = shared / "golden"
        config = read_config(folder / f"{name}.model_config.json")
        return load_checkpoint(folder / f"{name}.random-init.pth", config)

    return get


@pytest.fixture(scope="session")
def exported(
    published_checkpoint: Callable[[str], Path],
    golden_checkpoint: Callable[[str], Checkpoint],
    made_once: Callable[[str, Callable[[Path], object]], Path],
) -> Callable[..., Path]:
    """(name, topk, variable) -> the model exported with all outputs, once a run of tests."""

    def get(name: str = "AASIST", topk: Any = "topk", *, variable: bool = False) -> Path:
        from aasist_deploy.export import ExportOptions, export_onnx
        from aasist_deploy.models import load_checkpoint

        options = ExportOptions(
            topk=topk,
            n_samples=None if variable else 64_600,
            outputs=("score", "logits", "embedding"),
        )

        def make(path: Path) -> None:
            weights = (
                golden_checkpoint(name)
                if name in GOLDEN
                else load_checkpoint(published_checkpoint(name))
            )
            export_onnx(weights, path, options)

        return made_once(f"{name}.{topk}.{'variable' if variable else 'fixed'}.onnx", make)

    return get


@pytest.fixture(scope="session")
def exported_stream(
    published_checkpoint: Callable[[str], Path],
    made_once: Callable[[str, Callable[[Path], object]], Path],
) -> Callable[[], Path]:
    """Published AASIST exported for streams, once a run of tests."""

    def make(path: Path) -> None:
        pytest.importorskip("onnxscript", reason="needs the extra export")
        from aasist_deploy.export.stream_export import export_stream
        from aasist_deploy.models import load_checkpoint

        export_stream(load_checkpoint(published_checkpoint("AASIST")), path)

    return lambda: made_once("AASIST.stream.onnx", make)


@pytest.fixture(scope="session")
def packaged_onnx(
    tmp_path_factory: pytest.TempPathFactory,
    made_once: Callable[[str, Callable[[Path], object]], Path],
) -> Callable[[], Path]:
    """The weights of the package exported by their name, once a run of tests."""

    def make(path: Path) -> None:
        pytest.importorskip("onnxscript", reason="needs the extra export")
        pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
        from aasist_deploy.resolve import model_file

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AASIST_DEPLOY_CACHE", str(tmp_path_factory.mktemp("cache")))
            path.write_bytes(model_file("aasist-l-mini", "onnx").read_bytes())

    return lambda: made_once("aasist-l-mini.onnx", make)


SMALL_SAMPLES = 16_000
SMALL_CONFIG: dict[str, Any] = {
    "architecture": "AASIST",
    "nb_samp": SMALL_SAMPLES,
    "first_conv": 128,
    "filts": [70, [1, 4], [4, 4], [4, 6], [6, 6]],
    "gat_dims": [6, 4],
    "pool_ratios": [0.5, 0.7, 0.5, 0.5],
    "temperatures": [2.0, 2.0, 100.0, 100.0],
}


@pytest.fixture(scope="session")
def small_config() -> dict[str, Any]:
    return SMALL_CONFIG


@pytest.fixture(scope="session")
def small_checkpoint(
    noise: Callable[..., NDArray[np.float32]],
    made_once: Callable[[str, Callable[[Path], object]], Path],
) -> Checkpoint:
    """A small network with every published mechanism, and weights whose outputs vary.

    Its `first_bn` has a negative weight, which cannot be moved through the max-pool, and no
    normalisation is the identity.
    """
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    from aasist_deploy.models import Aasist, AasistConfig, load_checkpoint

    def make(path: Path) -> None:
        torch.manual_seed(5)
        model = Aasist(AasistConfig.from_mapping(SMALL_CONFIG))
        norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
        with torch.no_grad():
            for norm in norms:
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.uniform_(-0.3, 0.3)
                norm.momentum = 1.0
            model.first_bn.weight.fill_(-0.8)
            for layer in model.modules():
                if isinstance(layer, torch.nn.Linear):
                    layer.weight.mul_(3.0)
            model.train()(torch.from_numpy(noise(16)))  # running statistics of such waves
        path.with_suffix(".conf").write_text(json.dumps({"model_config": SMALL_CONFIG}))
        torch.save(model.state_dict(), path)

    return load_checkpoint(made_once("small.pth", make))


@pytest.fixture(scope="session")
def small_onnx(
    small_checkpoint: Checkpoint,
    made_once: Callable[[str, Callable[[Path], object]], Path],
) -> Callable[..., Path]:
    """Options of the export -> the small network exported with them, once a run of tests."""
    pytest.importorskip("onnxscript", reason="needs the extra export")
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

    def get(**options: Any) -> Path:
        from aasist_deploy.export import ExportOptions, export_onnx

        given = {
            "topk": "topk",
            "n_samples": SMALL_SAMPLES,
            "outputs": ("score", "logits", "embedding"),
            **options,
        }
        digest = hashlib.sha256(repr(sorted(given.items())).encode()).hexdigest()[:12]

        def make(path: Path) -> None:
            export_onnx(small_checkpoint, path, ExportOptions(**given))

        return made_once(f"small-{digest}.onnx", make)

    return get


@pytest.fixture
def traced_before(small_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports of `small_checkpoint` take its trace from a file of `small_onnx`, and do the rest.

    For tests of what becomes of an export. That two exports give the same graph is a test of its
    own (tests/unit/export/test_onnx_from_torch.py), and so is every option of a trace.
    """
    from aasist_deploy.export import graph_passes, onnx_from_torch

    real = onnx_from_torch.onnx_from_torch

    def trace(_checkpoint: object, options: Any) -> Any:
        import onnx

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(onnx_from_torch, "onnx_from_torch", real)  # where the file is made now
            path = small_onnx(topk=options.topk, n_samples=options.n_samples)
        model = onnx.load(path)
        del model.metadata_props[:]
        graph_passes.keep_outputs(model, options.outputs)
        return model

    monkeypatch.setattr(onnx_from_torch, "onnx_from_torch", trace)


class FakeEngine(BaseEngine):
    """An engine without a runtime: the score is ten times the mean of the wave."""

    backend = "fake"

    def __init__(self, *, sign: float = 1.0, fail_at: int | None = None, **contract: Any) -> None:
        self.sign, self.fail_at = sign, fail_at
        self.error: BaseException = RuntimeError("the fake engine broke")
        self.batches: list[int] = []
        fields: dict[str, Any] = {
            "architecture": "Fake",
            "config": {},
            "sample_rate_hz": 16_000,
            "n_samples": 800,
            "min_samples": 800,
            "outputs": {"score": "ten times the mean, (batch,)"},
            "checkpoint_sha256": "0" * 64,
            **contract,
        }
        super().__init__(ModelContract(**fields), "nothing", max_batch=None)

    def _run(self, waves: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        self.batches.append(len(waves))
        if self.fail_at is not None and sum(self.batches) > self.fail_at:
            raise self.error
        with np.errstate(over="ignore"):
            return {"score": (self.sign * 10 * waves.mean(axis=1)).astype(np.float32)}

    def _close(self) -> None:
        self.batches.append(-1)


@pytest.fixture(scope="session")
def fake_engine() -> type[FakeEngine]:
    return FakeEngine


@pytest.fixture(scope="session")
def noise() -> Callable[..., NDArray[np.float32]]:
    """(n_waves, n_samples) -> noise whose level differs from wave to wave and within each."""

    def make(n_waves: int, n_samples: int = SMALL_SAMPLES, seed: int = 0) -> NDArray[np.float32]:
        random = np.random.default_rng(seed)
        level = np.geomspace(0.02, 0.6, n_waves)[:, None]
        shape = 0.55 + 0.45 * np.sin(np.arange(n_samples) / 16_000 * 20 + level * 9)
        smooth = np.cumsum(random.normal(size=(n_waves, n_samples)), axis=1)
        smooth -= smooth.mean(axis=1, keepdims=True)
        smooth /= np.abs(smooth).max(axis=1, keepdims=True)
        mix = level * smooth + (1 - level) * random.uniform(-1, 1, (n_waves, n_samples))
        return (level * shape * mix).astype(np.float32)

    return make


@pytest.fixture
def fake_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """(providers listed, providers a session takes or its error) -> such an onnxruntime module.

    None as the list leaves a module without content, as an uninstalled package does.
    """

    def install(listed: list[str] | None, taken: list[str] | Exception) -> None:
        module: Any = ModuleType("onnxruntime")
        module.__spec__ = ModuleSpec("onnxruntime", None)

        def session(*_args: object, **_options: object) -> Any:
            if isinstance(taken, Exception):
                raise taken
            return SimpleNamespace(get_providers=lambda: taken)

        def options() -> Any:
            return SimpleNamespace(add_session_config_entry=lambda *_: None)

        if listed is not None:
            module.__version__ = "9.9"
            module.SessionOptions = options
            module.InferenceSession = session
            module.get_available_providers = lambda: listed
        monkeypatch.setitem(sys.modules, "onnxruntime", module)

    return install
