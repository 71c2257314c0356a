#!/bin/bash
# On the GPU machine, in a copy of the repository: trt85_engine.py under the Python that TensorRT 8.5 was packed with (pack_trt85.sh, unpacked as ~/trt85).
# usage: run_trt85.sh OPTIONS OF trt85_engine.py     e.g. run_trt85.sh -o $OUT/trt85.json --limit-s 130
set -euo pipefail
repository=$PWD; site=$HOME/trt85
export LD_LIBRARY_PATH=$site/py310/lib:$site/tensorrt${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} PYTHONHOME=$site/py310 PYTHONPATH=$site:$repository
exec "$site/py310/bin/python3.10" -m benchmarks.gpu.trt85_engine ~/bench "$@"
