#!/usr/bin/env bash
# Runs every experiment on the paper's claims; see docs/paper.md.
#
#   bash scripts/paper/all.sh CLIPS OUT [--short]
#
# CLIPS is the folder that record_pacman.py makes with --paper-clips: CLIPS/train and CLIPS/test.
# With IMAGES set to a folder of CIFAR-10's binary files, or of films, the experiment on images, too.
# With GAMES set to the folder that the head of lengths.py makes, clips of any length, too.
# video-diffusion-pytorch takes part where it is installed (head of diffusion_peer.py).
# Results go to OUT, such as docs/paper. Ctrl-C at any time: the same command goes on.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ $# -lt 2 ]; then
  echo "usage: bash scripts/paper/all.sh CLIPS OUT [--short]" >&2
  exit 2
fi
clips=$1 out=$2
shift 2
export OMP_NUM_THREADS=1
python=${PYTHON:-python}

case " $* " in *" --short "*) "$python" scripts/paper/covariance.py "$out" --short ;;
*) "$python" scripts/paper/covariance.py "$out" ;;
esac
"$python" scripts/paper/moving_shape.py "$out" "$@"
"$python" scripts/paper/text.py "$out" "$@"
"$python" scripts/paper/lower_level.py "$clips" "$out" "$@"
if [ -n "${IMAGES:-}" ]; then
  "$python" scripts/paper/images.py "$IMAGES" "$out" "$@"
fi
"$python" scripts/paper/memory.py "$clips" "$out" "$@"
if [ -n "${GAMES:-}" ]; then
  "$python" scripts/paper/lengths.py "$GAMES" "$out" "$@"
fi
"$python" scripts/paper/pacman.py "$clips" "$out" "$@"
"$python" scripts/paper/few_clips.py "$clips" "$out" "$@"
if "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("video_diffusion_pytorch") is None)'; then
  "$python" scripts/paper/peer.py "$clips" "$out" "$@"
fi
