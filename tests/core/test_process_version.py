"""The version of a running process against the installed one."""

import pytest

from pipeline.core import process_version


@pytest.mark.parametrize(
    ("own", "installed", "other"),
    [
        ("0.1.0", "0.1.0", None),
        ("0.1.0", "0.2.0", "0.2.0"),
        ("0.1.0", None, "none"),  # pip removes the old files first
        (None, None, None),  # from a folder that was never installed
    ],
)
def test_other_version_is_found(
    monkeypatch: pytest.MonkeyPatch, own: str | None, installed: str | None, other: str | None
) -> None:
    monkeypatch.setattr(process_version, "OWN", own)
    monkeypatch.setattr(process_version, "_read_version", lambda: installed)
    assert process_version.find_other() == other
