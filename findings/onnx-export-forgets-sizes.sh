#!/usr/bin/env bash
# torch.onnx.export quietly narrows dynamic_shapes, where torch.export.export refuses them.
#
# Guess: with the same dynamic_shapes both refuse what the code does not hold for.
# Seen with torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2 and onnxruntime 1.32.0: torch.onnx.export takes over
# what torch.export.export suggests in its error, and says nothing. Code for exactly 4 rows gives a graph of 4
# rows, though 2 to 64 were asked for. Of `x + 1 if x.shape[0] < 8 else x - 1`, traced with 4 rows, the graph
# takes any number of rows, as ONNX has no place for "at most 7", and adds 1 to 12 rows, too. Call
# torch.export.export yourself and give what it returns to torch.onnx.export.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check \
    torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
cat >show.py <<'PY'
import warnings

import onnxruntime
import torch
from torch.export import Dim

warnings.simplefilter("ignore")


class Branch(torch.nn.Module):
    def forward(self, x):
        return x + 1 if x.shape[0] < 8 else x - 1


class FourRows(torch.nn.Module):
    def forward(self, x):
        return x + torch.arange(4.0)[:, None]


def refused(export, module):
    try:
        export(module, (torch.zeros(4, 3),), dynamic_shapes={"x": {0: Dim("rows", min=2, max=64)}})
    except Exception as error:
        return type(error).__name__
    return None


def to_onnx(module, x, dynamic_shapes):
    program = torch.onnx.export(module, x, dynamo=True, dynamic_shapes=dynamic_shapes, verbose=False)
    program.save("graph.onnx")


for module in (Branch().eval(), FourRows().eval()):
    name = type(module).__name__
    print(f"{name}: torch.export.export: {refused(torch.export.export, module)}; "
          f"torch.onnx.export: {refused(to_onnx, module)}")
    if refused(to_onnx, module):
        continue
    session = onnxruntime.InferenceSession("graph.onnx")
    (given,) = session.get_inputs()
    print(f"  the graph takes {given.shape}")
    if name == "Branch":
        for rows in (4, 12):
            (value,) = {float(v) for v in session.run(None, {given.name: torch.zeros(rows, 3).numpy()})[0].flat}
            print(f"  of {rows} rows of zeros: {value:g}, torch gives {module(torch.zeros(rows, 3))[0, 0]:g}")
PY
venv/bin/python show.py 2>err.txt | tee said.txt || { cat err.txt; exit 1; }
diff said.txt - <<'END'
Branch: torch.export.export: UserError; torch.onnx.export: None
  the graph takes ['rows', 3]
  of 4 rows of zeros: 1, torch gives 1
  of 12 rows of zeros: 1, torch gives -1
FourRows: torch.export.export: UserError; torch.onnx.export: None
  the graph takes [4, 3]
END
