"""Memory for reading one body: no shape of JSON needs more than three times its size."""

import ctypes
import gc
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from pipeline.core import json_input
from pipeline.core.errors import Refused
from pipeline.core.json_input import parse_json
from pipeline.exports.schemas.plan import Plan

#: A quarter of what the service accepts, and a quarter of the limits that go with it: the ratio of memory to size is the same.
LARGEST: Final = 8 * 1024 * 1024
QUARTERED: Final = ("_MAX_VALUES", "_MAX_TEXT", "_MAX_NON_BMP_BYTES")
MAX_GROWTH: Final = 3.0
#: What Python itself may need in addition, such as the module of a codec.
FIXED_BYTES: Final = 1024 * 1024

#: The bytes for a body with the maximum number of values: each becomes a Python object.
MAX_BYTES_OF_VALUES: Final = 6 * 32 * 1024 * 1024


def repeat_value(begin: bytes, each: bytes, end: bytes) -> Callable[[], bytes]:
    """Return a function that builds a body of LARGEST bytes from repeated `each`."""
    return lambda: begin + each * ((LARGEST - len(begin) - len(end)) // len(each)) + end


def number_values(begin: bytes, each: bytes, end: bytes) -> Callable[[], bytes]:
    """Return a function that builds a body of LARGEST bytes from `each`, with a new number for %d each time."""

    def made() -> bytes:
        count = LARGEST // (len(each) + 6)
        return begin + b"".join(each % (1_000_000 + number) for number in range(count)) + end

    return made


BODIES: Final[dict[str, Callable[[], bytes]]] = {
    "small objects": repeat_value(b'{"units":[', b'{"a":1},', b'{"a":1}]}'),
    "one member again and again": repeat_value(b"{", b'"a":0,', b'"a":0}'),
    "one long member again and again": repeat_value(b"{", b'"aaaaaaaaaaa":0,', b'"a":0}'),
    "members of many names": number_values(b"{", b'"long_name_%d":0,', b'"a":0}'),
    "objects of many names": number_values(b'{"units":[', b'{"long_name_%d":"x"},', b"1]}"),
    "empty texts": repeat_value(b'{"units":[', b'"",', b'""]}'),
    "short texts": repeat_value(b'{"units":[', b'"a",', b'"a"]}'),
    "texts of a few letters": number_values(b'{"units":[', b'"text %d",', b'""]}'),
    "one long text": repeat_value(b'{"units":"', b"a", b'"}'),
    "one long text with one character beyond": repeat_value('{"units":"😀'.encode(), b"a", b'"}'),
    "texts with one character beyond": repeat_value('{"units":["😀",'.encode(), b'"aaaaaaaaaaaaaaaaaaa",', b'""]}'),
    "one long text of another script": repeat_value(b'{"units":"', "装".encode(), b'"}'),
    "one text of escapes": repeat_value(b'{"units":"', b'\\"', b'"}'),
    "one text of escaped letters": repeat_value(b'{"units":"', b"\\u0041", b'"}'),
    "texts of escapes": repeat_value(b'{"units":[', b'"\\"\\\\",', b'""]}'),
    "a text of escaped quotes that does not end": repeat_value(b'{"units":"', b'\\"', b""),
    "quotes alone": repeat_value(b"", b'"', b""),
    "numbers": repeat_value(b'{"units":[', b"1,", b"1]}"),
    "long numbers": number_values(b'{"units":[', b"%d1234567,", b"1]}"),
    "empty lists": repeat_value(b'{"units":[', b"[],", b"[]]}"),
    "empty objects": repeat_value(b'{"units":[', b"{},", b"{}]}"),
    "deep lists": repeat_value(b'{"units":[', b"[" * 28 + b"]" * 28 + b",", b"[]]}"),
    "deep objects": repeat_value(b'{"units":[', b'{"a":' * 28 + b"1" + b"}" * 28 + b",", b"1]}"),
    "too deep": repeat_value(b"", b"[", b""),
    "spaces": repeat_value(b"{", b" ", b"}"),
    "colons": repeat_value(b"{", b":", b"}"),
}


def measure_growth(body: bytes) -> int:
    """Return the maximum growth in bytes of a process that parses `body` as a plan."""
    there, here = os.pipe()
    child = os.fork()
    if child == 0:
        gc.collect()
        # Else the child would use the free memory of this process without growing.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
        before = _kilobytes("VmRSS")
        try:
            with suppress(Refused):
                parse_json(body, Plan, max_depth=32)
        except BaseException:  # noqa: BLE001 - this process must not continue as a second test run
            os._exit(1)
        os.write(here, str((_kilobytes("VmHWM") - before) * 1024).encode())
        os._exit(0)
    os.close(here)
    with os.fdopen(there, "rb") as reader:
        answer = reader.read()
    assert os.waitpid(child, 0)[1] == 0, "parsing crashed instead of rejecting the body"
    return int(answer)


def _kilobytes(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


@pytest.mark.system
@pytest.mark.parametrize("name", BODIES)
def test_body_of_any_shape_needs_at_most_three_times_its_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in QUARTERED:
        monkeypatch.setattr(json_input, limit, getattr(json_input, limit) // 4)
    body = BODIES[name]()
    assert len(body) > 0.9 * LARGEST
    assert measure_growth(body) <= MAX_GROWTH * len(body) + FIXED_BYTES


@pytest.mark.system
def test_body_with_the_maximum_of_values_needs_bounded_memory() -> None:
    body = b'{"units":[' + b",".join(b'"text %07d"' % number for number in range(1_999_000)) + b"]}"
    assert measure_growth(body) <= MAX_BYTES_OF_VALUES
