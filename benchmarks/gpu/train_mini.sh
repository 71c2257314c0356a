#!/bin/bash
# On the GPU machine, in the repository root: trains aasist-l-mini from what train_mini_pack.py put together.
# usage: bash benchmarks/gpu/train_mini.sh [FOLDER]     FOLDER holds wheels and maybe LA; default ~/train, else .gpu/train
# Without FOLDER/LA the clips are those in ~/audio/LA_mini. MINI_S: seconds in all (default 150).
# OUT: a folder for the one file that comes back, mini.tar.gz.
set -uo pipefail
from=${1:-$([ -d ~/train ] && echo ~/train || echo .gpu/train)}
corpus=$from/LA; [ -d "$corpus" ] || corpus=~/audio/LA_mini
out=${OUT:?}
began=$(date +%s)
site=$(mktemp -d)
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$from"/wheels/*.whl || exit 3
runs=$(mktemp -d)
left=$((${MINI_S:-150} - $(date +%s) + began))
PYTHONPATH=$PWD:$site${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 timeout $((left + 30)) python3 -m benchmarks.gpu.train_mini \
  --root "$corpus" --out "$runs" --seconds "$left" "${@:2}" 2>&1 | tee "$runs/log.txt" | tail -n 60
status=${PIPESTATUS[0]}
(cd "$runs" && tar czf "$out/mini.tar.gz" --exclude=checkpoints --exclude=tensorboard .)
exit "$status"
