#!/usr/bin/env bash
# bitsandbytes' Adam8bit on a CPU hardly moves weights whose gradients are small beside others of their block.
#
# Guess: as Adam, which divides by each weight's own second moment: all weights move by the learning rate.
# Seen with bitsandbytes 0.50.2 and torch 2.13.0: where one gradient in 256 is 1 and all others 1e-3, ten
# updates move the others a third as far as Adam does; with 1e-4 an eighth.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check torch==2.13.0 bitsandbytes==0.50.2 numpy==2.4.6
venv/bin/python - <<'PY'
import bitsandbytes
import torch


def moved(make, small):
    weights = torch.nn.Parameter(torch.zeros(8192))
    optimizer = make([weights], lr=1e-3)
    for _ in range(10):
        weights.grad = torch.full((8192,), small)
        weights.grad[::256] = 1.0
        optimizer.step()
    return abs(weights[1].item())


for small, share in ((1e-1, 1.0), (1e-2, 1.0), (1e-3, 0.35), (1e-4, 0.12)):
    adam, eight = moved(torch.optim.Adam, small), moved(bitsandbytes.optim.Adam8bit, small)
    print(f"gradients of {small:g} beside 1: Adam {adam:.5f}, Adam8bit {eight:.5f}")
    assert abs(eight / adam - share) < 0.05
PY
