"""Calls as values: what is sent, whether it may be sent twice, and what the answer becomes; nothing here touches a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import to_jsonable_python

from pipeline.client.errors import ApiUnreachable, InvalidArgument

T = TypeVar("T")
U = TypeVar("U")
M = TypeVar("M", bound=BaseModel)


class RetryWhen(Enum):
    """When a call that failed may be made again."""

    ALWAYS = auto()  # twice is as good as once
    NOT_SENT = auto()  # only where it is sure that nothing was done
    NEVER = auto()


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call of the API; `parse` makes of a good answer what the caller gets.

    `also` are statuses that are good besides 2xx. The answer may take `extra_seconds` longer than others.
    """

    method: str
    path: str
    parse: Callable[[httpx.Response], T]
    params: Mapping[str, str | int | list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    retry_when: RetryWhen = RetryWhen.NOT_SENT
    accepted_statuses: frozenset[int] = frozenset()
    extra_seconds: float = 0

    def request_options(self, timeout_seconds: float) -> dict[str, Any]:
        """Return what httpx is called with."""
        body = {} if self.json is None else {"json": self.json}
        timeout = httpx.Timeout(timeout_seconds, read=timeout_seconds + self.extra_seconds)
        return {"params": dict(self.params), "headers": dict(self.headers), "timeout": timeout, **body}

    def map(self, transform: Callable[[T], U]) -> Call[U]:
        """Return the same call, with what it gives made into something else."""
        parse = self.parse
        return Call(
            self.method,
            self.path,
            lambda response: transform(parse(response)),
            self.params,
            self.headers,
            self.json,
            self.retry_when,
            self.accepted_statuses,
            self.extra_seconds,
        )

    def accepts(self, response: httpx.Response) -> bool:
        """Whether the answer is one that `parse` understands."""
        return response.is_success or response.status_code in self.accepted_statuses


@dataclass(frozen=True)
class ResultPage(Generic[T]):
    """Some of a long answer, and the call that brings more of it."""

    items: Sequence[T] = ()
    next_call: Call[ResultPage[T]] | None = None


def parse_as(model: type[M]) -> Callable[[httpx.Response], M]:
    """Return what reads an answer as `model`; members of later versions are left alone."""

    def parse(response: httpx.Response) -> M:
        try:
            return model.model_validate_json(response.content, extra="ignore")
        except ValidationError as error:
            raise ApiUnreachable(f"{response.url} answers something else than this version's API") from error

    return parse


def get(path: str, parse: Callable[[httpx.Response], T], **params: str | int | list[str] | None) -> Call[T]:
    """Return a call that only looks; a parameter that is None is left out."""
    return Call("GET", path, parse, params=drop_none(**params), retry_when=RetryWhen.ALWAYS)


def drop_none(**params: str | int | list[str] | None) -> dict[str, str | int | list[str]]:
    """Return the parameters that are not None."""
    return {name: value for name, value in params.items() if value is not None}


def to_request_body(model: BaseModel) -> Any:
    """Return what is said of a model: only what was set, so that the service's defaults stay its own, and secrets in clear."""
    return to_jsonable_python(_reveal_secrets(model.model_dump(by_alias=True, include=set(model.model_fields_set))))


def _reveal_secrets(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {name: _reveal_secrets(each) for name, each in value.items()}
    return [_reveal_secrets(each) for each in value] if isinstance(value, list | tuple) else value


def encode_segment(value: str) -> str:
    """Return `value` as one part of a path: an id that holds a slash must not become another path.

    Raises InvalidArgument where it is none.
    """
    if not value.strip("."):
        raise InvalidArgument("id", "is empty, or made of dots alone; give the whole id")
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        raise InvalidArgument("id", "is not UTF-8 text") from None


def check_header(argument: str, value: str) -> str:
    """Return `value`, given as `argument`, for a header: printable ASCII without space around it (RFC 9110, 5.5).

    Raises InvalidArgument where it is something else.
    """
    if value != value.strip():
        raise InvalidArgument(
            argument, "has a space or a line break around it; a file with Windows line ends leaves one"
        )
    if not (value.isascii() and value.isprintable()):
        raise InvalidArgument(argument, "holds a character that no HTTP header may; write printable ASCII")
    return value
