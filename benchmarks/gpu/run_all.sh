#!/bin/bash
# On the GPU machine, in the repository root: takes in what was carried under .gpu, then runs the stages named.
# usage: run_all.sh [STAGE...]     stages: torch, compile-in-background, rtx, ort, trt85
# Reports gather in ~/out; all of them are copied to $OUT at the end of every call. Each stage has its time limit,
# from the environment: TORCH_S, COMPILE_S, ORT_S, TRT85_S.
set -uo pipefail
. benchmarks/gpu/setup.sh
out=${OUT:?}
for name in ort rtx trt85; do bash benchmarks/gpu/unpack.sh $name; done
here=benchmarks/gpu
for stage in "$@"; do
  # Nothing is timed beside a job that was left running; after a minute and a half that job is ended.
  for _ in $(seq 45); do kill -0 "$(cat ~/compile.pid 2> /dev/null || echo 0x)" 2> /dev/null || break; sleep 2; done
  if kill -0 "$(cat ~/compile.pid 2> /dev/null || echo 0x)" 2> /dev/null; then kill -- -"$(cat ~/compile.pid)"; fi
  echo "== $stage $(date -u +%H:%M:%S)"
  case $stage in
    torch)
      s=${TORCH_S:-270}
      timeout $((s + 45)) python3 $here/torch_bench.py ~/bench -o ~/out/torch.json --limit-s "$s" > ~/out/torch.log 2>&1 ;;
    compile-in-background)  # compiling needs the CPU for minutes; other parts can be carried meanwhile
      (cd ~/src && setsid nohup timeout 600 python3 $here/torch_bench.py ~/bench -o ~/out/compile.json --parts compile \
        --batches 1,32,128 --models AASIST --limit-s "${COMPILE_S:-150}" > ~/out/compile.log 2>&1 < /dev/null & echo $! > ~/compile.pid) ;;
    rtx)
      PYTHONPATH=$PYTHONPATH:$HOME/rtx/site timeout 240 python3 $here/trt_rtx_probe.py ~/bench -o ~/out/rtx.json > ~/out/rtx.log 2>&1 ;;
    ort)
      s=${ORT_S:-170}
      ln -sfn "$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])')" ~/ort/site/nvidia  # PyTorch's CUDA libraries
      PYTHONPATH=$PYTHONPATH:$HOME/ort/site timeout $((s + 60)) python3 $here/ort_cuda_bench.py ~/bench -o ~/out/ort.json --limit-s "$s" > ~/out/ort.log 2>&1 ;;
    trt85)
      s=${TRT85_S:-330}
      timeout $((s + 60)) bash $here/run_trt85.sh -o ~/out/trt85.json --limit-s "$s" > ~/out/trt85.log 2>&1 ;;
    *) echo "no stage $stage" ;;
  esac
  echo "== $stage ended with $? $(date -u +%H:%M:%S)"
  case $stage in compile*) ;; *) tail -n 25 ~/out/"$stage".log | cut -c1-300 ;; esac
done
rm -f ~/out/*.part
for report in ~/out/*.json; do [ -f "$report" ] && cp "$report" "$out"/; done
(cd ~/out && tar czf "$out"/logs.tar.gz ./*.log 2> /dev/null)
ls -l "$out"; nvidia-smi --query-gpu=name,driver_version,memory.used,clocks.sm,temperature.gpu --format=csv,noheader 2> /dev/null; df -h ~ | tail -1
