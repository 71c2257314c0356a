#!/bin/bash
# On the GPU machine, in the repository root: trt85_bench.py under the Python that TensorRT 8.5 was unpacked with.
# usage: run_trt85.sh OPTIONS OF trt85_bench.py     e.g. run_trt85.sh -o $OUT/trt85.json --max-batch 128
set -euo pipefail
repository=$PWD; site=$HOME/trt85/site
cd "$site"
LD_LIBRARY_PATH=$site/tensorrt${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} PYTHONHOME=$site/py310 PYTHONPATH=$site:$repository \
  exec ./py310/bin/python3.10 "$repository/benchmarks/gpu/trt85_bench.py" ~/bench "$@"
