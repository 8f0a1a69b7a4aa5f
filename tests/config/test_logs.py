"""Tests of the log of a process: records of the service and of libraries hold no secrets and take one line each."""

import io
import json
import logging
import logging.config
from collections.abc import Callable, Iterator

import pytest
import structlog
from uvicorn.config import LOGGING_CONFIG

from config import logs
from config.logs import configure_logs
from config.settings import Settings

SECRETS = (
    "postgresql://exports:hun/ter2@db.example/exports",
    "password=hunter2",
    "Bearer hunter2",
    "exp_live_hunter2",
    "whsec_hunter2",
)
FORMATS = ("json", "text")

Open = Callable[[str], io.StringIO]


@pytest.fixture
def open_log() -> Iterator[Open]:
    """Return a function that writes this process's log in a format into a text; restore the log afterwards."""
    named = ("uvicorn", "uvicorn.error", "uvicorn.access", *logs.NOISY)
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in named)]
    before = [(each, each.handlers[:], each.level, each.propagate) for each in loggers]
    configured = structlog.get_config()

    def start(log_format: str) -> io.StringIO:
        stream = io.StringIO()
        configure_logs(Settings.model_validate({"log_format": log_format, "broker_url": "redis://127.0.0.1"}), stream)
        return stream

    yield start
    structlog.configure(**configured)
    for each, handlers, level, propagate in before:
        each.handlers[:], each.level, each.propagate = handlers, level, propagate


@pytest.mark.parametrize("log_format", FORMATS)
def test_service_record_contains_no_secret(open_log: Open, log_format: str) -> None:
    stream = open_log(log_format)
    log = structlog.get_logger("pipeline.test")
    with structlog.contextvars.bound_contextvars(address=SECRETS[0]):
        for secret in SECRETS:
            log.warning(secret, said=secret, about={"headers": [("authorization", "hunter2")], "list": [secret]})
    log.warning("settings_read", secret_key="hunter2", key_id="abcdefghij")
    written = stream.getvalue()
    assert "hun" not in written
    assert written.count("[hidden]") >= 3 * len(SECRETS)
    assert "abcdefghij" in written


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("name", ["uvicorn.error", "celery.worker", "sqlalchemy.engine", "other.library"])
def test_library_record_contains_no_secret(open_log: Open, name: str, log_format: str) -> None:
    # The logging of uvicorn when it is started by its own command.
    logging.config.dictConfig(LOGGING_CONFIG)
    stream = open_log(log_format)
    library = logging.getLogger(name)
    for secret in SECRETS:
        library.warning("connecting to %s with %r", secret, {"password": "hunter2"})
        try:
            raise ConnectionError(secret)
        except ConnectionError:
            library.exception("it failed")
    written = stream.getvalue()
    assert "hun" not in written
    assert written.count("ConnectionError") >= len(SECRETS)
    assert written.count("[hidden]") == 3 * len(SECRETS)


@pytest.mark.parametrize("log_format", FORMATS)
def test_service_traceback_contains_no_secret(open_log: Open, log_format: str) -> None:
    stream = open_log(log_format)
    log = structlog.get_logger("pipeline.test")
    try:
        try:
            raise ValueError("redis://:hunter2@mq.example/0")
        except ValueError as cause:
            raise RuntimeError({"token": "hunter2"}) from cause
    except RuntimeError as error:
        log.exception("request_failed")
        log.error("step_raised", exc_info=error)  # noqa: TRY400 - the service logs it so
    written = stream.getvalue()
    # A traceback shows the lines of this test, which hold no secret.
    assert written.count("redis://[hidden]@mq.example/0") == 4
    assert written.count("RuntimeError: {'token': [hidden]}") == 2
    assert "hunter2" not in written


def test_log_without_redaction_contains_the_secrets(open_log: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "redact", lambda _, __, event: event)
    stream = open_log("json")
    structlog.get_logger("pipeline.test").warning("said", address=SECRETS[0])
    logging.getLogger("other.library").warning(SECRETS[1])
    assert stream.getvalue().count("hun") == 2


FORGED = "harmless\r\n2026-01-01T00:00:00Z [info     ] export_executed\x1b[2K\x85\u2028forged"


def test_text_with_line_breaks_is_one_json_record(open_log: Open) -> None:
    stream = open_log("json")
    structlog.get_logger("pipeline.test").warning(FORGED, file=FORGED, names=[FORGED])
    logging.getLogger("other.library").warning("took %s", FORGED)
    first, second = stream.getvalue().splitlines()
    assert [json.loads(first)[name] for name in ("event", "file", "names")] == [FORGED, FORGED, [FORGED]]
    assert json.loads(second)["event"] == f"took {FORGED}"


def test_text_with_line_breaks_is_one_text_record(open_log: Open) -> None:
    stream = open_log("text")
    structlog.get_logger("pipeline.test").warning(FORGED, file=FORGED, names=[FORGED])
    logging.getLogger("other.library").warning("took %s", FORGED)
    written = stream.getvalue()
    assert len(written.splitlines()) == 2
    assert "\x1b" not in written
    assert r"harmless\r\n2026" in written


def test_traceback_lines_are_indented(open_log: Open) -> None:
    stream = open_log("text")
    try:
        raise ValueError(FORGED)
    except ValueError:
        logging.getLogger("other.library").exception("it failed")
    first, *traceback = stream.getvalue().splitlines()
    assert "it failed" in first
    assert len(traceback) >= 4
    assert all(line.startswith("    ") for line in traceback)
