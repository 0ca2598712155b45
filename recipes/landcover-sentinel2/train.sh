#!/bin/sh
# The default model: learnt from what prepare.py wrote to DATA, into the folder RUN.
# Usage: sh train.sh DATA RUN
set -eu
recipe=$(dirname "$0")/recipe.yaml

# First, loosely: what a turned or coarsened chip shows is taken to be what the chip shows.
geoseg train "$recipe" --set data="$1" -o "$2/first"

# Then to the letter: turned chips come with what the teacher says of those, and chips begin
# where the teacher's own cells of 2 x 2 pixels do.
geoseg train "$recipe" --set data="$1" --set begin_with="$2/first/model" \
    --set scenes='[train/images/*.tif, turned/images/*.tif]' \
    --set labels='[train/labels/*.tif, turned/labels/*.tif]' \
    --set flips=false --set align_px=2 --set zoomed=0.25 \
    --set lr=2.0e-3 --set epochs=25 -o "$2/last"
