"""What a process is said to take is what it takes, with what it started."""

import os
import subprocess
import sys

import pytest

from gyral.testkit.usage import cpu_s, memory_bytes

BUSY = "import time\nwhile time.process_time() < 0.3: pass\n"
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BUSY!r}], check=True)
child = subprocess.Popen([sys.executable, "-c", {BUSY!r} + "print(flush=True); input()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(flush=True)
input()
child.communicate(b"\\n")
"""


def test_core_time_is_that_of_children_too_that_run_or_have_ended():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        parent.stdout.readline()
        spent = cpu_s(parent.pid)
        parent.communicate(b"\n")
    assert spent >= 2 * 0.3 - 0.05


def test_memory_is_what_is_resident_and_its_peak():
    before = memory_bytes(os.getpid())
    held = bytearray(os.urandom(64 << 20))
    grown = memory_bytes(os.getpid()) - before
    assert grown >= 0.9 * len(held)
    assert memory_bytes(os.getpid(), "VmHWM") >= memory_bytes(os.getpid())
    with pytest.raises(LookupError, match="VmNone"):
        memory_bytes(os.getpid(), "VmNone")


def test_nothing_is_spent_by_a_process_that_is_gone():
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert cpu_s(ended.pid) == 0
