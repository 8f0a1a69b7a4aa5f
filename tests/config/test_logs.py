"""What leaves a process as its log: ours and the libraries' records alike, a secret on none, and each on a line of its own."""

from __future__ import annotations

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
    """Have the log of this process written in a format into a text; afterwards it is as it was."""
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
def test_no_record_of_ours_says_a_secret(open_log: Open, log_format: str) -> None:
    stream = open_log(log_format)
    log = structlog.get_logger("pipeline.of_a_test")
    with structlog.contextvars.bound_contextvars(address=SECRETS[0]):
        for secret in SECRETS:
            log.warning(secret, said=secret, about={"headers": [("authorization", "hunter2")], "list": [secret]})
    log.warning("settings_read", secret_key="hunter2", key_id="abcdefghij")
    written = stream.getvalue()
    assert "hun" not in written
    assert written.count("[hidden]") >= 3 * len(SECRETS)
    assert "abcdefghij" in written


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("name", ["uvicorn.error", "celery.worker", "sqlalchemy.engine", "of.nobody"])
def test_no_record_of_a_library_says_a_secret(open_log: Open, name: str, log_format: str) -> None:
    # As uvicorn leaves it when the web process is begun by its own command.
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
def test_no_traceback_of_ours_says_a_secret(open_log: Open, log_format: str) -> None:
    stream = open_log(log_format)
    log = structlog.get_logger("pipeline.of_a_test")
    try:
        try:
            raise ValueError("redis://:hunter2@mq.example/0")
        except ValueError as cause:
            raise RuntimeError({"token": "hunter2"}) from cause
    except RuntimeError as error:
        log.exception("request_failed")
        log.error("step_raised", exc_info=error)  # noqa: TRY400 - as the product has it
    written = stream.getvalue()
    # The lines of code that a traceback shows are the test's own.
    assert written.count("redis://[hidden]@mq.example/0") == 4
    assert written.count("RuntimeError: {'token': [hidden]}") == 2
    assert "hunter2" not in written


def test_without_the_processor_the_secrets_would_be_there(open_log: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "redact", lambda _, __, event: event)
    stream = open_log("json")
    structlog.get_logger("pipeline.of_a_test").warning("said", address=SECRETS[0])
    logging.getLogger("of.nobody").warning(SECRETS[1])
    assert stream.getvalue().count("hun") == 2


FORGED = "harmless\r\n2026-01-01T00:00:00Z [info     ] export_executed\x1b[2K\x85\u2028forged"


def test_a_text_with_line_breaks_is_one_record_of_json(open_log: Open) -> None:
    stream = open_log("json")
    structlog.get_logger("pipeline.of_a_test").warning(FORGED, file=FORGED, names=[FORGED])
    logging.getLogger("of.nobody").warning("took %s", FORGED)
    first, second = stream.getvalue().splitlines()
    assert [json.loads(first)[name] for name in ("event", "file", "names")] == [FORGED, FORGED, [FORGED]]
    assert json.loads(second)["event"] == f"took {FORGED}"


def test_a_text_with_line_breaks_is_one_record_for_people_too(open_log: Open) -> None:
    stream = open_log("text")
    structlog.get_logger("pipeline.of_a_test").warning(FORGED, file=FORGED, names=[FORGED])
    logging.getLogger("of.nobody").warning("took %s", FORGED)
    written = stream.getvalue()
    assert len(written.splitlines()) == 2
    assert "\x1b" not in written
    assert r"harmless\r\n2026" in written


def test_the_lines_of_a_traceback_cannot_pass_for_records(open_log: Open) -> None:
    stream = open_log("text")
    try:
        raise ValueError(FORGED)
    except ValueError:
        logging.getLogger("of.nobody").exception("it failed")
    first, *traceback = stream.getvalue().splitlines()
    assert "it failed" in first
    assert len(traceback) >= 4
    assert all(line.startswith("    ") for line in traceback)
