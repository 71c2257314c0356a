from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from aasist_deploy import open_engine
from aasist_deploy.contract import ModelContract, read_contract
from aasist_deploy.engines import cpu_features, openvino_cache
from aasist_deploy.engines.openvino_graph import OpenvinoGraph
from aasist_deploy.errors import ModelFileError, OutputError, ShapeError, UsageError
from aasist_deploy.onnx_file import parse_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

# Found, not imported: only `import_openvino` imports it without its telemetry.
if find_spec("openvino") is None:
    pytest.skip("needs OpenVINO", allow_module_level=True)

# float32 rounding of one graph in two runtimes; measured max 3.6e-6 over the waves here.
RUNTIMES_ATOL = 1e-5
# bf16 keeps 8 bits of the mantissa. Measured 0.029 for scores over the waves here.
BF16_ATOL = 0.1

NO_BF16 = "flags\t\t: fpu avx2 avx512f avx512_vnni\nmodel name\t: Made-up CPU\n"
NO_VNNI = "flags\t\t: fpu avx2\nmodel name\t: Made-up CPU\n"


@pytest.fixture(scope="module")
def engine(small_onnx: Callable[..., Path]) -> Iterator[Any]:
    with open_engine(small_onnx(), "openvino", threads=2) as opened:
        yield opened


@pytest.fixture(scope="module")
def waves(noise: Callable[..., NDArray[np.float32]]) -> NDArray[np.float32]:
    return noise(10)


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Makes this CPU another one: a made-up text in place of the kernel's."""

    def pretend(text: str) -> None:
        path = tmp_path / "cpuinfo"
        path.write_text(text)
        monkeypatch.setattr(cpu_features, "CPUINFO", path)
        for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
            monkeypatch.delenv(variable, raising=False)

    return pretend


def with_contract(path: Path, target: Path, **fields: Any) -> Path:
    """The file with another contract, its graph as it was."""
    contract, _ = read_contract(path)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, replace(contract, **fields).to_metadata())
    onnx.save(model, target)
    return target


def fixed_to_batch(path: Path, target: Path, size: int) -> Path:
    """The file with a batch of this size alone."""
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    graph = parse_onnx(model.SerializeToString(), target).graph_sha256
    contract, _ = read_contract(path)
    new = replace(contract, batch=(size, size), graph_sha256=graph)
    onnx.helper.set_model_props(model, new.to_metadata())
    onnx.save(model, target)
    return target


def loudness_of_any_length(path: Path, target: Path) -> Path:
    """A graph that takes any length: the score is the mean of the absolute values."""
    helper = onnx.helper
    nodes = [
        helper.make_node("Abs", ["wave"], ["a"]),
        helper.make_node("ReduceMean", ["a", "axes"], ["score"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "loudness",
        [helper.make_tensor_value_info("wave", 1, ["batch", "samples"])],
        [helper.make_tensor_value_info("score", 1, ["batch"])],
        [onnx.numpy_helper.from_array(np.array([1], np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    contract, _ = read_contract(path)
    new = replace(
        contract,
        n_samples=None,
        min_samples=800,
        outputs={"score": "loudness"},
        topk={},
        graph_sha256=parse_onnx(model.SerializeToString(), target).graph_sha256,
    )
    helper.set_model_props(model, new.to_metadata())
    onnx.save(model, target)
    return target


def quantized(path: Path, target: Path, waves: NDArray[np.float32]) -> Path:
    """The file in int8, of one calibration set of a few waves; only its form matters here."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"wave": wave[None]} for wave in waves]

        def get_next(self) -> dict[str, Any] | None:
            return self.left.pop() if self.left else None

    contract, _ = read_contract(path)
    quantize_static(
        path, target, Reader(), quant_format=QuantFormat.QDQ, op_types_to_quantize=["Conv"]
    )
    graph = parse_onnx(target.read_bytes(), target).graph_sha256
    model = onnx.load(target)
    new = replace(contract, precision="int8", graph_sha256=graph, topk={})
    onnx.helper.set_model_props(model, new.to_metadata())
    onnx.save(model, target)
    return target


def test_outputs_are_those_of_onnx_runtime(
    engine: Any, waves: NDArray[np.float32], small_onnx: Callable[..., Path]
) -> None:
    with open_engine(small_onnx(), "onnx") as other:
        expected = other.run(waves)
    found = engine.run(waves)
    assert set(found) == set(expected) == {"score", "logits", "embedding"}
    for name, value in found.items():
        assert value.dtype == np.float32
        assert value.shape == expected[name].shape
        assert np.abs(value - expected[name]).max() <= RUNTIMES_ATOL


def test_scores_are_fresh(engine: Any, waves: NDArray[np.float32]) -> None:
    first = engine.score(waves)
    kept = first.copy()
    engine.score(waves[::-1].copy())
    assert np.array_equal(first, kept)
    first[:] = 0
    assert np.array_equal(engine.score(waves), kept)


def test_device_says_precision_threads_and_hint(small_onnx: Callable[..., Path]) -> None:
    with open_engine(small_onnx(), "openvino", threads=2, hint="throughput") as engine:
        assert engine.device == "CPU, fp32, 2 threads, throughput, 2 streams"
        assert engine.backend == "openvino"


def test_fp32_is_what_is_taken_and_bf16_only_when_asked(
    engine: Any, small_onnx: Callable[..., Path], waves: NDArray[np.float32]
) -> None:
    assert engine.device == "CPU, fp32, 2 threads, latency"
    exact = engine.score(waves)
    with open_engine(
        small_onnx(), "openvino", precision="bf16", allow_slow_precision=True
    ) as lower:
        assert lower.device.startswith("CPU, bf16, ")
        difference = np.abs(lower.score(waves) - exact).max()
    assert RUNTIMES_ATOL < difference <= BF16_ATOL


@pytest.mark.parametrize("hint", ["latency", "throughput"])
@pytest.mark.parametrize("max_batch", [1, 3, None])
def test_neither_batch_nor_hint_nor_repetition_changes_a_bit(
    hint: Any,
    max_batch: int | None,
    engine: Any,
    waves: NDArray[np.float32],
    small_onnx: Callable[..., Path],
) -> None:
    one_by_one = np.concatenate([engine.score(wave[None]) for wave in waves])
    options: Any = {"threads": 2, "hint": hint, "max_batch": max_batch}
    with open_engine(small_onnx(), "openvino", **options) as other:
        assert np.array_equal(other.score(waves), one_by_one)
        assert np.array_equal(other.score(waves), one_by_one)


def test_number_of_threads_changes_rounding_at_most(
    engine: Any, waves: NDArray[np.float32], small_onnx: Callable[..., Path]
) -> None:
    with open_engine(small_onnx(), "openvino", threads=1) as other:
        assert np.abs(other.score(waves) - engine.score(waves)).max() <= RUNTIMES_ATOL


@pytest.mark.parametrize("hint", ["latency", "throughput"])
def test_eight_threads_with_mixed_batches_get_their_own_rows(
    hint: Any, waves: NDArray[np.float32], small_onnx: Callable[..., Path]
) -> None:
    with open_engine(small_onnx(), "openvino", hint=hint, threads=2, max_batch=4) as engine:
        expected = engine.score(waves)
        jobs = [(start, 1 + start % 5) for start in range(6)] * 8
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda job: engine.score(waves[job[0] : sum(job)]), jobs))
    for (start, n), scores in zip(jobs, found, strict=True):
        assert np.array_equal(scores, expected[start : start + n])


def test_a_fixed_batch_is_filled_up_in_both_hints(
    small_onnx: Callable[..., Path], engine: Any, waves: NDArray[np.float32], tmp_path: Path
) -> None:
    expected = engine.score(waves[:7])
    path = fixed_to_batch(small_onnx(), tmp_path / "fixed.onnx", 3)
    for hint in ("latency", "throughput"):
        options: Any = {"hint": hint, "threads": 2}
        fixed: Any = open_engine(path, "openvino", **options)
        with fixed:
            assert fixed._graph.inputs == {"wave": (3, 16_000)}
            assert np.abs(fixed.score(waves[:7]) - expected).max() <= RUNTIMES_ATOL


def test_throughput_runs_a_smallest_batch_of_several_whole(
    small_onnx: Callable[..., Path], engine: Any, waves: NDArray[np.float32], tmp_path: Path
) -> None:
    path = with_contract(small_onnx(), tmp_path / "pairs.onnx", batch=(2, None))
    with open_engine(path, "openvino", hint="throughput", threads=2) as pairs:
        for n in (1, 2, 5, 8):
            assert np.array_equal(pairs.score(waves[:n]), engine.score(waves[:n]))


def test_variable_length_models_take_every_length(
    small_onnx: Callable[..., Path], noise: Callable[..., NDArray[np.float32]], tmp_path: Path
) -> None:
    path = loudness_of_any_length(small_onnx(), tmp_path / "any.onnx")
    for hint in ("latency", "throughput"):
        options: Any = {"hint": hint, "threads": 2}
        with open_engine(path, "openvino", **options) as engine:
            for n_samples in (16_000, 23_457, 800, 16_000):
                some = noise(3, n_samples)
                expected = np.abs(some).mean(axis=1)
                assert np.abs(engine.score(some) - expected).max() <= RUNTIMES_ATOL


def test_kept_nodes_are_those_of_onnx_runtime(
    small_onnx: Callable[..., Path], waves: NDArray[np.float32]
) -> None:
    first: Any = open_engine(small_onnx(), "openvino")
    second: Any = open_engine(small_onnx(), "onnx")
    with first, second:
        found, expected = first.pooling_orders(waves), second.pooling_orders(waves)
    assert set(found) == set(expected)
    assert found
    for name, order in found.items():
        assert order.dtype == np.int64
        assert np.array_equal(order, expected[name]), name


def test_close_is_final_and_may_be_repeated(
    small_onnx: Callable[..., Path], waves: NDArray[np.float32]
) -> None:
    engine = open_engine(small_onnx(), "openvino")
    engine.close()
    engine.close()
    with pytest.raises(ShapeError, match="closed"):
        engine.score(waves)


# --- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8"}, "no precision 'fp8' in OpenVINO; known are: fp32, bf16, int8"),
        ({"hint": "fast"}, "no hint 'fast'; known are: latency, throughput"),
        ({"threads": 0}, "number of threads is 0"),
        ({"precision": "int8"}, "is a file in fp32, which can be computed in fp32 or bf16"),
        ({"precision": "int8+bf16"}, "asked was int8\\+bf16"),
    ],
)
def test_options_that_cannot_be_are_refused(
    options: Any, message: str, small_onnx: Callable[..., Path]
) -> None:
    with pytest.raises(UsageError, match=message):
        open_engine(small_onnx(), "openvino", **options)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_files_written_for_gpus_are_refused_unless_allowed(
    precision: str, small_onnx: Callable[..., Path], tmp_path: Path, waves: NDArray[np.float32]
) -> None:
    # Only the contract says so here; the graph computes in fp32, so that it runs when allowed.
    path = with_contract(small_onnx(), tmp_path / "low.onnx", precision=precision)
    with pytest.raises(UsageError, match=f"written in {precision} for GPUs") as raised:
        open_engine(path, "openvino")
    assert "--precision bf16" in str(raised.value.fix)
    with open_engine(path, "openvino", allow_slow_precision=True, threads=1) as engine:
        assert engine.device == f"CPU, fp32 of a {precision} file, 1 threads, latency"
        assert np.isfinite(engine.score(waves)).all()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (NO_BF16, r"this CPU \(Made-up CPU\) has neither AVX512_BF16 nor AMX"),
        ("", "does not say what this CPU computes"),
    ],
)
def test_bf16_is_refused_on_a_pretended_cpu_without_it(
    text: str,
    reason: str,
    cpu: Callable[[str], None],
    small_onnx: Callable[..., Path],
    waves: NDArray[np.float32],
) -> None:
    cpu(text)
    path = small_onnx()
    with pytest.raises(UsageError, match=f"bf16 would be emulated, slower.*{reason}") as raised:
        open_engine(path, "openvino", precision="bf16")
    assert "allow_slow_precision" in str(raised.value.fix)
    options: Any = {"precision": "bf16", "allow_slow_precision": True}
    with open_engine(path, "openvino", **options) as engine:
        assert np.isfinite(engine.score(waves[:1])).all()
    open_engine(path, "openvino").close()  # fp32 needs none of it


def test_bf16_is_refused_where_onednn_is_really_held_below_it(
    small_onnx: Callable[..., Path],
) -> None:
    """In a process whose oneDNN emulates bf16, on whatever CPU this is."""
    program = (
        "import sys, aasist_deploy as a\n"
        "try: a.open_engine(sys.argv[1], 'openvino', precision='bf16')\n"
        "except a.UsageError as error: print(error)\n"
    ).replace("a.UsageError", "a.AasistDeployError")
    done = subprocess.run(
        [sys.executable, "-c", program, small_onnx()],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "bf16 would be emulated" in done.stdout
    if "avx512_bf16" in cpu_features.cpu_flags():
        assert "ONEDNN_MAX_CPU_ISA=AVX512_CORE keeps the arithmetic below it" in done.stdout


# --- int8 files


@pytest.fixture(scope="module")
def int8_file(
    small_onnx: Callable[..., Path],
    waves: NDArray[np.float32],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    return quantized(small_onnx(), tmp_path_factory.mktemp("int8") / "int8.onnx", waves[:4])


def test_int8_file_opens_in_its_own_precision_and_says_so(
    int8_file: Path, cpu: Callable[[str], None], waves: NDArray[np.float32]
) -> None:
    cpu(NO_BF16)  # it has VNNI
    with open_engine(int8_file, "openvino", threads=2) as engine:
        assert engine.device == "CPU, int8, 2 threads, latency"
        assert np.isfinite(engine.score(waves)).all()


def test_int8_file_is_no_fp32_and_mixes_with_bf16_only_when_asked(
    int8_file: Path, cpu: Callable[[str], None], waves: NDArray[np.float32]
) -> None:
    with pytest.raises(UsageError, match="file in int8, which can be computed in int8 or int8"):
        open_engine(int8_file, "openvino", precision="fp32")
    cpu("flags : avx512_vnni avx512_bf16\n")
    with open_engine(int8_file, "openvino", precision="int8+bf16", threads=2) as engine:
        assert engine.device == "CPU, int8+bf16, 2 threads, latency"
        assert np.isfinite(engine.score(waves)).all()


def test_int8_is_refused_on_a_pretended_cpu_without_vnni(
    int8_file: Path, cpu: Callable[[str], None]
) -> None:
    cpu(NO_VNNI)
    with pytest.raises(UsageError, match=r"int8 would be emulated.*neither VNNI nor AMX"):
        open_engine(int8_file, "openvino")
    open_engine(int8_file, "openvino", allow_slow_precision=True).close()


# --- files that are not what they say


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input_name": "audio"}, "says audio -> .*; the graph has wave -> "),
        ({"outputs": {"score": "x", "posterior": "y"}}, "says wave -> posterior, score"),
        ({"n_samples": 64_600, "min_samples": 64_600}, "waves of 64600 samples.*takes 16000"),
    ],
)
def test_contract_that_speaks_of_another_graph_is_refused(
    fields: dict[str, Any], message: str, small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    path = with_contract(small_onnx(), tmp_path / "x.onnx", **fields)
    with pytest.raises(ModelFileError, match=message):
        open_engine(path, "openvino")


def test_altered_file_and_graph_that_openvino_refuses_are_model_file_errors(
    small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    content = small_onnx().read_bytes()
    path = tmp_path / "x.onnx"
    position = content.index(b"encoder.0")
    path.write_bytes(content[:position] + b"E" + content[position + 1 :])
    with pytest.raises(ModelFileError, match="altered after export"):
        open_engine(path, "openvino")
    model = onnx.load_model_from_string(content)
    model.graph.node[3].op_type = "NoSuchOperator"
    fields = {p.key: p.value for p in model.metadata_props}
    graph = parse_onnx(model.SerializeToString(), path).graph_sha256
    contract = replace(ModelContract.from_metadata(fields, path), graph_sha256=graph)
    onnx.helper.set_model_props(model, contract.to_metadata())
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match=r"OpenVINO .* cannot compile .*NoSuchOperator"):
        open_engine(path, "openvino")


# --- compiled models on disk


def test_compiled_model_is_kept_used_again_and_gives_the_same(
    small_onnx: Callable[..., Path], engine: Any, waves: NDArray[np.float32], tmp_path: Path
) -> None:
    expected = engine.score(waves)
    blobs: list[tuple[Path, int]] = []
    for _ in range(2):
        with open_engine(small_onnx(), "openvino", threads=2, cache_dir=tmp_path / "c") as kept:
            assert np.array_equal(kept.score(waves), expected)
        blobs.append(next((b, b.stat().st_mtime_ns) for b in (tmp_path / "c").rglob("*.blob")))
    assert blobs[0] == blobs[1]
    assert len(list((tmp_path / "c").iterdir())) == 1


def test_changed_file_settings_openvino_or_cpu_never_get_an_old_compiled_model(
    small_onnx: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    content, settings = small_onnx().read_bytes(), {"arithmetic": "fp32", "threads": 2}
    folders = [
        openvino_cache.cache_folder(tmp_path, content, settings),
        openvino_cache.cache_folder(tmp_path, content + b" ", settings),
        openvino_cache.cache_folder(tmp_path, content, {**settings, "arithmetic": "bf16"}),
    ]
    monkeypatch.setattr(openvino_cache, "cpu_flags", lambda: frozenset({"avx2"}))
    folders.append(openvino_cache.cache_folder(tmp_path, content, settings))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    folders.append(openvino_cache.cache_folder(tmp_path, content, settings))
    other = SimpleNamespace(__version__="9.9")
    monkeypatch.setattr(openvino_cache, "import_openvino", lambda: other)
    folders.append(openvino_cache.cache_folder(tmp_path, content, settings))
    assert len(set(folders)) == len(folders)
    assert openvino_cache.cache_folder(tmp_path, content, settings) == folders[-1]


def test_file_that_changed_in_place_is_scored_as_it_is_now(
    small_onnx: Callable[..., Path], waves: NDArray[np.float32], tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    options: Any = {"cache_dir": tmp_path / "c", "threads": 2}
    scores = []
    for factor in (1.0, 2.0):
        model = onnx.load(small_onnx())
        for held in model.graph.initializer:
            if held.name.startswith("out_layer") or "out" in held.name:
                values = onnx.numpy_helper.to_array(held) * np.float32(factor)
                held.CopyFrom(onnx.numpy_helper.from_array(values, held.name))
        contract, _ = read_contract(small_onnx())
        graph = parse_onnx(model.SerializeToString(), path).graph_sha256
        onnx.helper.set_model_props(model, replace(contract, graph_sha256=graph).to_metadata())
        onnx.save(model, path)
        with open_engine(path, "openvino", **options) as cached:
            scores.append(cached.score(waves))
        with open_engine(path, "openvino", threads=2) as anew:
            assert np.array_equal(scores[-1], anew.score(waves))
    assert np.abs(scores[0] - scores[1]).max() > 0.01  # the two files do differ


def test_folder_that_others_may_write_to_is_no_place_for_compiled_models(
    small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(OutputError, match=r"run as code.*others may write to it") as raised:
        open_engine(small_onnx(), "openvino", cache_dir=tmp_path / "open")
    assert "chmod 700" in str(raised.value.fix)
    assert list((tmp_path / "open").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be kept"):
        open_engine(small_onnx(), "openvino", cache_dir=tmp_path / "file")


# --- the graph alone, and the import


def test_a_graph_without_contract_runs_arrays_by_name() -> None:
    helper = onnx.helper
    node = helper.make_node("Sub", ["a", "b"], ["c"])
    values = [helper.make_tensor_value_info(n, 1, ["n", 2]) for n in ("a", "b", "c")]
    graph = helper.make_graph([node], "g", values[:2], values[2:])
    content = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()
    from pathlib import Path

    part = OpenvinoGraph(content, Path("part"), hint="throughput", threads=2)
    assert part.inputs == {"a": (None, 2), "b": (None, 2)}
    assert part.outputs == ("c",)
    one, two = np.full((3, 2), 5, np.float32), np.full((3, 2), 2, np.float32)
    assert np.array_equal(part.run({"b": two, "a": one})["c"], one - two)
    pieces = [{"a": one * i, "b": two} for i in range(9)]
    for i, found in enumerate(part.run_all(pieces)):
        assert np.array_equal(found["c"], one * i - two)
    with pytest.raises(RuntimeError):
        part.run_all([{"a": one, "b": two}, {"a": one, "nothing": two}])
    assert np.array_equal(part.run({"a": one, "b": two})["c"], one - two)  # requests came back
    part.close()
    part.close()


def test_openvino_is_imported_without_its_telemetry(tmp_path: Path) -> None:
    """In a process of its own, with a home that shows what was written."""
    program = (
        "import sys\n"
        "from aasist_deploy.engines.openvino_graph import openvino_core\n"
        "openvino_core()\n"
        "assert 'openvino' in sys.modules\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "print(telemetry_utils.tm.__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["[]", "openvino.tools.ovc.telemetry_stub"]
    assert list(tmp_path.iterdir()) == []
