#!/bin/bash
# Packs onnxruntime-gpu (cp312, x86-64) for the GPU machine: OUT/0/part.00, OUT/1/part.01 ... each with SHA256SUMS.
# usage: pack_ort.sh OUT [WHEEL]     without WHEEL the wheel is fetched with pip. About 5 minutes on two cores.
set -euo pipefail
out=${1:?usage: pack_ort.sh OUT [WHEEL]}; wheel=${2:-}; work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
site=$work/site; mkdir -p "$out" "$site"
if [ -z "$wheel" ]; then
  python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    --platform manylinux_2_28_x86_64 -d "$work/w" onnxruntime-gpu==1.31.1
  wheel=$(echo "$work"/w/onnxruntime_gpu-*.whl)
fi
python3 -m zipfile -e "$wheel" "$site"
# What a session does not load. The TensorRT provider stays: the benchmark records how it is refused.
rm -rf "$site"/onnxruntime/{tools,transformers,quantization,datasets,backend} "$site"/onnxruntime/capi/libonnxruntime.so*
find "$site" -name '*.so' -exec strip --strip-debug {} +
du -sh "$site" "$site"/onnxruntime/capi/*.so
tar --sort=name --mtime=@0 --owner=0 --group=0 -C "$site" -cf - . | nice -n 19 xz -T2 --x86 --lzma2=preset=6 > "$work/all.tar.xz"
(cd "$work" && split -b 55m -d -a 2 all.tar.xz part. && sha256sum all.tar.xz > SHA256SUMS)
rm -rf "${out:?}"/[0-9]*
i=0; for p in "$work"/part.*; do mkdir -p "$out/$i"; mv "$p" "$out/$i/"; cp "$work/SHA256SUMS" "$out/$i/"; i=$((i + 1)); done
du -sh "$out"/*
