#!/bin/bash
# Packs TensorRT 8.5.3.1 with a CPython 3.10 to run it: OUT.tar.xz, unpacked as ~/trt85.
# The newest full TensorRT whose wheels are whole; it is for GPUs that TensorRT-RTX does not take. Some minutes on two cores.
# usage: pack_trt85.sh OUT.tar.xz PYTHON310_PREFIX     e.g. pack_trt85.sh .gpu/trt85.tar.xz "$(pyenv prefix 3.10.13)"
set -euo pipefail
out=${1:?usage: pack_trt85.sh OUT.tar.xz PYTHON310_PREFIX}; py310=${2:?a CPython 3.10 prefix}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; site=$work/site; mkdir -p "$site"
python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.10 --implementation cp \
  --platform manylinux_2_28_x86_64 --platform manylinux_2_24_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
  -d "$work/w" tensorrt==8.5.3.1 'numpy<2' 'cuda-bindings==13.0.*' cuda-pathfinder
for wheel in "$work"/w/*.whl; do python3 -m zipfile -e "$wheel" "$site"; done
# The plugin library needs cuBLAS 11 and cuDNN 8, which these networks do not use; an empty one with its name satisfies the loader.
libraries=$site/tensorrt; rm "$libraries/libnvinfer_plugin.so.8"
printf 'int initLibNvInferPlugins(void *logger, const char *space) { return 1; }\n' > "$work/p.c"
gcc -shared -fPIC -Wl,-soname,libnvinfer_plugin.so.8 -o "$libraries/libnvinfer_plugin.so.8" "$work/p.c"
mkdir -p "$site/py310/bin" "$site/py310/lib"
cp "$py310/bin/python3.10" "$site/py310/bin/"; cp -a "$py310"/lib/libpython3* "$site/py310/lib/"
(cd "$py310/lib" && tar cf - --exclude='*/test' --exclude='*/__pycache__' --exclude='*/site-packages' --exclude='*/ensurepip' --exclude='*/idlelib' \
  --exclude='*/lib2to3' --exclude='*/tkinter' --exclude='*/config-3.10*' python3.10) | tar xf - -C "$site/py310/lib"
find "$site" -name tests -type d -prune -exec rm -rf {} +
tar --sort=name --mtime=@0 --owner=0 --group=0 -C "$site" -cf - . | nice -n 19 xz -T2 --block-size=96MiB --x86 --lzma2=preset=9,dict=96MiB > "$out"
ls -l "$out"
