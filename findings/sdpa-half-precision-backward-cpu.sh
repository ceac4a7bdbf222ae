#!/usr/bin/env bash
# On a CPU the backward pass of attention is slower in bf16 than in float32.
#
# Guess: torch.nn.functional.scaled_dot_product_attention in bf16 trains at least as fast as in
# float32, and as fast as the same three lines written out.
# Seen with torch 2.13.0, one thread of an x86 CPU with AVX-512: forward is quicker, but forward and
# backward together take 2 to 2.5 times as long as in float32, and 3 to 4 times as long as softmax(q k^T) v
# written out in bf16. With batches of short sequences (64 tokens) under autocast the backward pass of
# attention was more than a third of an update of a small transformer. In float32 both ways are alike.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'PY'
import math
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(1)


def written(q, k, v):
    return (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).float().softmax(-1).to(v.dtype) @ v


def least(attend, kind):
    q, k, v = (torch.randn(128, 4, 64, 48, dtype=kind, requires_grad=True) for _ in range(3))
    times = []
    for _ in range(6):
        begun = time.process_time()
        attend(q, k, v).sum().backward()
        times.append(time.process_time() - begun)
    return min(times[1:])


own = {kind: least(F.scaled_dot_product_attention, kind) for kind in (torch.float32, torch.bfloat16)}
out = {kind: least(written, kind) for kind in own}
for kind in own:
    print(kind, f"own {1000 * own[kind]:.1f} ms, written out {1000 * out[kind]:.1f} ms")
assert own[torch.bfloat16] > 1.3 * own[torch.float32], "bf16 is as quick as float32 now"
assert own[torch.bfloat16] > 1.8 * out[torch.bfloat16], "as quick as written out now"
assert own[torch.float32] < 1.5 * out[torch.float32], "slow in float32, too"
PY
