#!/bin/bash
# On the GPU machine, in the repository root: puts code, clips, models and missing wheels under ~.
# usage: . benchmarks/gpu/setup.sh     (sourced: it sets PYTHONPATH)
mkdir -p ~/src ~/out
cp -r aasist_deploy benchmarks ~/src/ # a job left running keeps its code when the tree here changes
if [ -d .gpu/bench ] && [ ! -f ~/bench/waves.npy ]; then
  mkdir -p ~/bench && cp -r .gpu/bench/. ~/bench/
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target ~/site ~/bench/wheels/*.whl
  PYTHONPATH=$HOME/src:$HOME/site python3 benchmarks/gpu/unpack_clips.py ~/bench
fi
export PYTHONPATH=$HOME/src:$HOME/site PYTHONUNBUFFERED=1
