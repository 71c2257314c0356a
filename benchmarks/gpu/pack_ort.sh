#!/bin/bash
# Packs onnxruntime-gpu (cp312, x86-64) for the GPU machine: OUT.tar.xz, unpacked as ~/ort. About 5 minutes on two cores.
# usage: pack_ort.sh OUT.tar.xz     e.g. pack_ort.sh .gpu/ort.tar.xz
set -euo pipefail
out=${1:?usage: pack_ort.sh OUT.tar.xz}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; site=$work/site; mkdir -p "$site"
python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
  --platform manylinux_2_28_x86_64 -d "$work/w" onnxruntime-gpu==1.31.1
python3 -m zipfile -e "$work"/w/onnxruntime_gpu-*.whl "$site"
# What a session does not load. The TensorRT provider stays: the benchmark records how it is refused.
rm -rf "$site"/onnxruntime/{tools,transformers,quantization,datasets,backend} "$site"/onnxruntime/capi/libonnxruntime.so*
find "$site" -name '*.so' -exec strip --strip-debug {} +
tar --sort=name --mtime=@0 --owner=0 --group=0 -C "$site" -cf - . | nice -n 19 xz -T2 --block-size=64MiB --x86 --lzma2=preset=9,dict=64MiB > "$out"
ls -l "$out"
