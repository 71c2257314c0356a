#!/bin/bash
# On a machine with an NVIDIA GPU, in the repository root: the GPU tests, then the benchmarks, into benchmarks/results/DATE-GPU-*.json.
# usage: check.sh [PYTHON]     PYTHON has torch, TensorRT (or TensorRT-RTX), pycuda or cuda-python, and what the package needs; default python3
# AASIST_GPU_CLIPS: folder with clips, references and graphs (default ~/bench); made from ../shared when it is missing.
# Exit code: 0 when tests and limits hold, 1 when one does not, 3 when the machine lacks something.
set -uo pipefail
python=${1:-python3}; clips=${AASIST_GPU_CLIPS:-$HOME/bench}; status=0
export AASIST_GPU_CLIPS=$clips AASIST_REQUIRE_GPU=1 PYTHONUNBUFFERED=1
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2> /dev/null | head -1 | tr '[:upper:] ' '[:lower:]-')
[ -n "$gpu" ] || { echo "nvidia-smi names no GPU: this needs a machine with an NVIDIA GPU and its driver." >&2; exit 3; }
if [ ! -f "$clips/waves.npy" ]; then
  [ -d ../shared/golden ] || { echo "$clips holds no clips and there is no ../shared to make them from; see benchmarks/gpu/README.md." >&2; exit 3; }
  work=$(mktemp -d)
  "$python" -m benchmarks.gpu.prepare "$work" --shared ../shared --no-wheels \
    && "$python" -m benchmarks.gpu.unpack_clips "$work/bench" ../shared/data/LA_mini \
    && mkdir -p "$clips" && cp -r "$work/bench/." "$clips/" || exit 3
  rm -rf "$work"
fi
results=benchmarks/results/$(date +%F)-${gpu#nvidia-}
mkdir -p benchmarks/results
step() { echo "== $*"; "$@" || status=1; }
step "$python" -m pytest -q -p no:cacheprovider tests/gpu --junitxml "$results-tests.xml"
step "$python" -m benchmarks.gpu.trt_bench "$clips" -o "$results-tensorrt.json"
step "$python" -m benchmarks.gpu.torch_bench "$clips" -o "$results-torch.json" --parts parity,timing,compile
if "$python" -c 'import onnxruntime, sys; sys.exit("CUDAExecutionProvider" not in onnxruntime.get_available_providers())' 2> /dev/null; then
  step "$python" -m benchmarks.gpu.ort_cuda_bench "$clips" -o "$results-onnxruntime.json"
else
  echo "== ONNX Runtime here has no CUDA provider: its benchmark is left out"
fi
ls -l "$results"*
exit $status
