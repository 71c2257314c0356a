#!/bin/bash
# On the GPU machine: collects the carried parts of one archive and unpacks it once all are there.
# usage: unpack.sh NAME     copies .gpu/NAME/*/* to ~/NAME; with all parts, makes ~/NAME/site
set -euo pipefail
into=$HOME/$1; mkdir -p "$into"
for part in .gpu/"$1"/[0-9]*; do if [ -d "$part" ]; then cp "$part"/* "$into"/; fi; done
cd "$into"
if [ -d site ] || ! compgen -G 'part.*' > /dev/null; then exit 0; fi
if [ "$(cat part.* | sha256sum | cut -d' ' -f1)" = "$(cut -d' ' -f1 SHA256SUMS)" ]; then
  rm -rf site.part; mkdir site.part; cat part.* | xz -dc | tar xf - -C site.part; mv site.part site; echo "unpacked $into/site"
else
  echo "$1: $(echo part.*), more to come"
fi
