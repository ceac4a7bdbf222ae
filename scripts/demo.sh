#!/usr/bin/env bash
# From nothing to generated videos: records a little Ms. Pac-Man, encodes it with the shipped frame
# model, trains a top model on the latents and generates nine videos with it.
#
#   bash scripts/demo.sh            about ten minutes on two CPU cores, downloads included
#   bash scripts/demo.sh --short    the same in about a minute after the set-up; too short to be good
#
# LDF_DEMO   where; demo/ (or demo-short/) in the checkout by default
#
# Safe to stop and to run again: it goes on from where it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1-}" in
  "") work=${LDF_DEMO:-demo} episodes=16 windows=1 clips=8000 minutes=5 ;;
  --short) work=${LDF_DEMO:-demo-short} episodes=2 windows=2 clips=100 minutes=0.3 ;;
  *)
    echo "demo: got $1, expected --short or nothing" >&2
    exit 2
    ;;
esac

started=$SECONDS
venv=$(bash scripts/setup.sh pacman)
echo "demo: set up after $((SECONDS - started)) s" >&2
mkdir -p "$work"
work=$(cd "$work" && pwd)
trap 'echo "demo: stopped; the same command goes on, or remove $work to start afresh" >&2' ERR

run() {
  echo "+ $*" >&2
  "$@"
}

"$venv/bin/python" scripts/data/record_pacman.py --out "$work/clips" \
  --episodes "$episodes" --test-episodes 0 --windows-per-episode "$windows" \
  --paper-clips "$clips" --clip-frames 16 >&2
cd "$work"
PATH="$venv/bin:$PATH"
run ldf-video encode clips/ --fps 15
run ldf-video train-top --minutes "$minutes" --seed 1
run ldf-video generate --frames 64 --num-videos 9 --seed 1 -o out.mp4
echo "demo: done in $((SECONDS - started)) s; the videos are in $work/out.mp4" >&2
