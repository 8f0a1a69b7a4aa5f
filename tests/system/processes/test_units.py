"""The service under the filter of system calls of its systemd units, and without memory that is writable and executable."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import skip_or_fail
from tests.support.units import HARDENING, list_allowed_calls, read_options

#: Applies what systemd would, then becomes the command: the error number, a file with the calls, the command.
APPLY: Final = """
import ctypes, errno, os, sys
import pyseccomp

PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 38, 65, 1
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
    raise OSError(ctypes.get_errno(), "prctl")
if libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
    print("this kernel has no PR_SET_MDWE", file=sys.stderr)  # Linux before 6.3
allowed = pyseccomp.SyscallFilter(pyseccomp.ERRNO(getattr(errno, sys.argv[1])))
for name in open(sys.argv[2]).read().split():
    try:
        allowed.add_rule(pyseccomp.ALLOW, name)
    except (ValueError, OSError):
        pass  # of another architecture, or newer than the library
allowed.load()
os.execv(sys.argv[3], sys.argv[3:])
"""


def run_filtered(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run the command under the measures of the units."""
    if shutil.which("systemd-analyze") is None:
        skip_or_fail("systemd-analyze is not installed; the package is systemd")
    (folder / "calls").write_text("\n".join(sorted(list_allowed_calls())), encoding="utf-8")
    options = read_options(HARDENING)
    assert (options["MemoryDenyWriteExecute"], options["NoNewPrivileges"]) == ("yes", "yes")
    wrapper = [sys.executable, "-c", APPLY, options["SystemCallErrorNumber"], str(folder / "calls")]
    return subprocess.run([*wrapper, *command], cwd=folder, capture_output=True, text=True, check=False, timeout=200)


@pytest.mark.timeout(300)
def test_demo_runs_under_the_filter(tmp_path: Path) -> None:
    done = run_filtered(tmp_path, str(Path(sys.executable).with_name("exports")), "demo", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count('"state": "executed"') >= 3


@pytest.mark.parametrize(
    "code", ["import os; os.chroot('/')", "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)"]
)
def test_filter_refuses_what_the_service_does_not_need(tmp_path: Path, code: str) -> None:
    done = run_filtered(tmp_path, sys.executable, "-c", code)
    if "mmap" in code and "no PR_SET_MDWE" in done.stderr:
        pytest.skip("only Linux 6.3 and later refuse such memory without systemd")
    assert done.returncode == 1
    assert "PermissionError" in done.stderr
