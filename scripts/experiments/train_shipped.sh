#!/usr/bin/env bash
# Trains a shipped model anew, from nothing, in one sitting, and measures it: data, frame model, latents, a
# flow, its student of few passes, float16 weights, figures and pictures.
#
#   bash scripts/experiments/train_shipped.sh pacman-32 OUT
#   bash scripts/experiments/train_shipped.sh film-64 OUT FILM...
#
# FRAME_MINUTES, TOP_MINUTES, FEW_MINUTES   of training: 60, 60 and 240
# ROLLED_MINUTES               of a third stage, after which G has met what the student makes: 0, none
# EPISODES, CLIPS              games (160) and clips (50000) that are recorded
# NUM_CLIPS                    clips that the judge sees on each side (5000)
# LDF_PYTHON                   a Python that has ldf-video with its extras pacman and evaluate; python by default
#
# Everything is in OUT, the models to ship in OUT/checkpoints/NAME. The same command goes on from where it
# was stopped.
set -euo pipefail

usage() {
  echo "train_shipped: got '$*', expected pacman-32 OUT, or film-64 OUT FILM..." >&2
  exit 2
}

[[ $# -ge 2 ]] || usage "$@"
name=$1 out=$2
shift 2
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${LDF_PYTHON:-python}
frame_minutes=${FRAME_MINUTES:-60} top_minutes=${TOP_MINUTES:-60}
few_minutes=${FEW_MINUTES:-240} rolled_minutes=${ROLLED_MINUTES:-0}
episodes=${EPISODES:-160} clips=${CLIPS:-50000} num_clips=${NUM_CLIPS:-5000}
films=()
for film in "$@"; do
  films+=("$(realpath "$film")")
done
mkdir -p "$out"
cd "$out"

run() {
  echo "+ $*" >&2
  "$@"
}
ldf() {
  run "$python" -m ldf_video "$@"
}
record() {
  run "$python" "$scripts/data/record_pacman.py" --windows-per-episode 0 --seed 0 "$@"
}
ship() { # KIND, RUN, DESTINATION, more options: a finished run -> float16 weights
  [[ -e $3/config.json ]] || run "$python" "$scripts/experiments/ship_model.py" "$@"
}

case $name in
  pacman-32)
    [[ ${#films[@]} == 0 ]] || usage "$name $out $*"
    record --out clips/places --episodes "$episodes" --test-episodes 0 --paper-clips $((2 * clips))
    record --out clips/moves --episodes "$episodes" --test-episodes 0 --paper-clips "$clips" --clip-frames 16
    record --out clips/test --episodes 0 --test-episodes 24 --paper-clips $((2 * num_clips))
    ldf train-frame clips/places --out frame --fps 15 --minutes "$frame_minutes" --batch-size 32 --seed 1
    ship frame frame half # whose E stays from here on
    ldf encode clips/moves --out latents --fps 15 --frame-model half
    ldf train-top --latents latents --out top --minutes "$top_minutes" --batch-size 32 --seed 1
    ldf train-top --few --init top --latents latents --out few --minutes "$few_minutes" --batch-size 8 --seed 1
    decoder=frame
    if [[ $rolled_minutes != 0 ]]; then
      ldf train-frame clips/moves --init half --top-model few --out decoder --fps 15 \
        --minutes "$rolled_minutes" --batch-size 16 --seed 1
      decoder=decoder
    fi
    ship frame "$decoder" "checkpoints/$name/frame"
    ship top few "checkpoints/$name/top"
    ship top top "checkpoints/$name-flow/top" --frame-model "$name"
    ldf reconstruct clips/test --frame-model "checkpoints/$name/frame"
    run "$python" "$scripts/experiments/pca_baseline.py" clips/test --train clips/places --size 32 --numbers 256
    ldf evaluate --real clips/test --top-model "checkpoints/$name" --frame-model "checkpoints/$name" \
      --num-clips "$num_clips" --seed 0 -o sheet.png --json figures.json
    run "$python" "$scripts/experiments/pacman_sheet.py" clips/test pacman-32.png --top-model "checkpoints/$name"
    ;;
  film-64)
    [[ ${#films[@]} -gt 0 ]] || usage "$name $out"
    cut() { # OUT, how
      [[ -e $1 ]] || run "$python" "$scripts/data/cut_films.py" "${films[@]}" --size 64 --out "$@"
    }
    cut clips/film
    cut clips/views --frames 4 --windows 8 --seed 1 # eight times as many windows: other places
    ldf train-frame clips/views/train --out frame --size 64 --fps 24 --minutes "$frame_minutes" \
      --batch-size 16 --seed 1
    ship frame frame "checkpoints/$name/frame"
    ldf reconstruct clips/film/test --frame-model "checkpoints/$name/frame"
    run "$python" "$scripts/experiments/pca_baseline.py" clips/film/test --train clips/views/train --size 64 \
      --numbers 1024
    ;;
  *) usage "$name $out $*" ;;
esac
