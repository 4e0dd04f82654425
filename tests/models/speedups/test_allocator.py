"""Memory kept by a process that scores or trains, measured from inside a separate process for each case."""

import os
import subprocess
import sys

import pytest

from harness import provenance

pytestmark = pytest.mark.slow

GIVEN_BACK = """
import ctypes
import torch
{before}
class Said(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]
ask = ctypes.CDLL(None).mallinfo2
ask.restype = Said
at_first = ask().arena + ask().hblkhd
blocks = [torch.ones(31 * 2**18) for _ in range(8)]  # 31 MiB each
del blocks
print((ask().arena + ask().hblkhd - at_first) // 2**20)
"""
OF_MANY_SHAPES = """
import re
from pathlib import Path
import harness.models.transformer
import torch
torch.set_num_threads(1)
layer = torch.nn.Linear(384, 1536).bfloat16()
with torch.inference_mode():
    for rows in range(1, 401):
        layer(torch.zeros(rows, 384, dtype=torch.bfloat16))
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 2**10)
"""


def held(program: str, **told: str) -> int:
    """MiB that a process reports to hold, with no limits on kernels but these."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")}
    command = [sys.executable, "-c", program]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment | told).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is told, and asked")
def test_memory_that_one_layer_gave_back_is_kept_for_the_next() -> None:
    as_it_is = held(GIVEN_BACK.format(before=""))
    kept = held(GIVEN_BACK.format(before="import harness.models.transformer"))
    turned_off = (
        "from harness.models import speedups\nwith speedups.without('allocator'): import harness.models.transformer"
    )
    assert as_it_is < 31
    assert held(GIVEN_BACK.format(before=turned_off)) < 31
    assert kept > 7 * 31


@pytest.mark.skipif(not provenance.has_fast_bf16(), reason="torch multiplies all else without oneDNN's kernels")
def test_few_kernels_are_kept_of_ever_new_shapes_unless_somebody_said_otherwise() -> None:
    told = dict.fromkeys(("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"), "1024")
    assert held(OF_MANY_SHAPES, **told) - held(OF_MANY_SHAPES) > 60
