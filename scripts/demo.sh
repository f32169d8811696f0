#!/usr/bin/env bash
# From a video to a talking head in one command, without a GPU and without a model hub.
#
#   bash scripts/demo.sh                        # the presenter that comes with the package
#   bash scripts/demo.sh me.mp4 speech.wav      # your own video, driven by your own audio
#   bash scripts/demo.sh --fast [VIDEO] [AUDIO] # a few minutes, at lower quality
#
# What is done is not done again: an interrupted demo goes on, a finished one shows its results.
# GAUSSIANTALKER_VENV names the environment (see scripts/test.sh), GAUSSIANTALKER_DEMO the folder of
# the results (default: outputs/demo).
set -euo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh

fast=no
files=()
for argument in "$@"; do
    case $argument in
        --fast) fast=yes ;;
        -*) echo "demo.sh: unknown option $argument; expected --fast, a video and an audio file" >&2; exit 2 ;;
        /*) files+=("$argument") ;;
        *) files+=("$here/$argument") ;;
    esac
done
for file in "${files[@]}"; do
    [ -f "$file" ] || { echo "demo.sh: there is no file $file" >&2; exit 2; }
done

# Threads that spin while they wait for each other slow everything down as soon as another program runs.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
prepare_environment "."
BIN=$(cd "$(dirname "$PYTHON")" && pwd)
sample=$("$PYTHON" -c 'from gaussiantalker_ns.assets import asset_path; print(asset_path("sample/presenter.mp4").parent)')
video=${files[0]:-$sample/presenter.mp4}
audio=${files[1]:-$sample/speech.wav}
if [ -n "${GAUSSIANTALKER_DEMO:-}" ]; then
    case $GAUSSIANTALKER_DEMO in /*) work=$GAUSSIANTALKER_DEMO ;; *) work=$here/$GAUSSIANTALKER_DEMO ;; esac
else
    work=$PWD/outputs/demo
fi
# Another video is another talker, with a folder of its own.
work=$work/$(basename "${video%.*}")$([ "$fast" = no ] || echo -fast)
mkdir -p "$work"

echo "== 1/4 Data set from $video"
"$BIN/gaussiantalker" process --video "$video" --output-dir "$work/data"

run=$work/talker/gaussiantalker-cpu/trained
if [ ! -f "$work/trained" ]; then
    echo "== 2/4 Training"
    rm -rf "$run"
    steps=()
    [ "$fast" = no ] || steps=(--max-num-iterations 1200 --pipeline.canonical-steps 400)
    "$BIN/ns-train" gaussiantalker-cpu --data "$work/data" --output-dir "$work" \
        --experiment-name talker --timestamp trained --vis tensorboard "${steps[@]}"
    touch "$work/trained"
else
    echo "== 2/4 Training: done before"
fi

talk=$work/$(basename "${audio%.*}").mp4
# Another recording may have the same name; the checksum of the one that was heard is in the video's record.
heard=$("$PYTHON" -c 'import sys; from pathlib import Path; from gaussiantalker_ns.files import sha256_of
print(sha256_of(Path(sys.argv[1])))' "$audio")
if [ ! -f "$talk" ] || ! grep -qs "$heard" "$talk.provenance.json"; then
    echo "== 3/4 Driving the talker with $audio"
    rm -f "$talk.provenance.json"
    "$BIN/gaussiantalker" drive --load-config "$run" --audio "$audio" --output "$talk" --overwrite
else
    echo "== 3/4 Driving: done before"
fi

if [ ! -f "$run/evaluation/evaluation.html" ]; then
    echo "== 4/4 Measuring against the frames that the training has not seen"
    "$BIN/gaussiantalker" evaluate --load-config "$run"
else
    echo "== 4/4 Measuring: done before"
    cat "$run/evaluation/evaluation.md"
fi
echo
echo "The talking head:   $talk"
echo "Its quality:        $run/evaluation/evaluation.html"
echo "As one file:        $run/talker.talker"
echo "Look at it live:    $BIN/ns-viewer --load-config $run/config.yml --viewer.websocket-host 127.0.0.1"
