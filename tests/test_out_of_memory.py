"""Memory that runs out: one line in every command, with what to lower."""

from __future__ import annotations

import pytest
import torch

import ldf_video
from ldf_video.errors import LdfError
from ldf_video.runs.devices import out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory.\n Tried to allocate 2 TiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    ],
)
def test_memory_that_runs_out_is_one_line_on_any_device(error: Exception) -> None:
    with (
        pytest.raises(LdfError, match=r"^out of memory: .+; try less$"),
        out_of_memory("less"),
    ):
        raise error
    with pytest.raises(RuntimeError, match="another"), out_of_memory("less"):
        raise RuntimeError("another")


@pytest.mark.parametrize(
    ("module", "name", "remedy"),
    [
        ("generate", "find_top_model", "fewer --num-videos or --frames, or -o DIRECTORY"),
        ("evaluate", "find_sources", "a smaller --num-clips or --size"),
        ("reconstruct", "find_sources", "--device cpu, a smaller --upscale"),
        ("info", "shipped_models", "a machine that has more"),
    ],
)
def test_every_command_says_what_to_lower_where_memory_runs_out(
    module: str, name: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise MemoryError("Unable to allocate 5 TiB")

    monkeypatch.setattr(f"ldf_video.recipes.{module}.{name}", fail)
    with pytest.raises(LdfError, match=f"^out of memory: Unable to allocate 5 TiB; try {remedy}"):
        getattr(ldf_video, module)("nothing")
