"""Calls as values: what is sent, whether it may be sent twice, and how the answer is parsed; this module sends nothing."""

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
    """When a failed call may be retried."""

    ALWAYS = auto()  # a repeat has no further effect
    NOT_SENT = auto()  # only if the service certainly did nothing
    NEVER = auto()


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call of the API; `parse` turns a successful answer into the caller's result.

    `accepted_statuses` are successful in addition to 2xx. The answer may take `extra_seconds` longer than others.
    """

    method: str
    path: str
    parse: Callable[[httpx.Response], T]
    params: Mapping[str, str | int | list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None  # a body that is not JSON
    retry_when: RetryWhen = RetryWhen.NOT_SENT
    accepted_statuses: frozenset[int] = frozenset()
    extra_seconds: float = 0

    def request_options(self, timeout_seconds: float) -> dict[str, Any]:
        """Return the options for httpx."""
        body: dict[str, Any] = {} if self.json is None else {"json": self.json}
        body |= {} if self.content is None else {"content": self.content}
        timeout = httpx.Timeout(timeout_seconds, read=timeout_seconds + self.extra_seconds)
        return {"params": dict(self.params), "headers": dict(self.headers), "timeout": timeout, **body}

    def map(self, transform: Callable[[T], U]) -> "Call[U]":
        """Return the same call with its result transformed."""
        parse = self.parse
        return Call(
            self.method,
            self.path,
            lambda response: transform(parse(response)),
            self.params,
            self.headers,
            self.json,
            self.content,
            self.retry_when,
            self.accepted_statuses,
            self.extra_seconds,
        )

    def accepts(self, response: httpx.Response) -> bool:
        """Return whether `parse` understands the answer."""
        return response.is_success or response.status_code in self.accepted_statuses


@dataclass(frozen=True)
class ResultPage(Generic[T]):
    """Some items of a list, and the call for the next page; None after the last page."""

    items: Sequence[T] = ()
    next_call: "Call[ResultPage[T]] | None" = None


def parse_as(model: type[M]) -> Callable[[httpx.Response], M]:
    """Return a function that parses an answer as `model`; it ignores members of later versions."""

    def parse(response: httpx.Response) -> M:
        try:
            return model.model_validate_json(response.content, extra="ignore")
        except ValidationError as error:
            raise ApiUnreachable(f"{response.url} answers with something other than this version's API") from error

    return parse


def get(path: str, parse: Callable[[httpx.Response], T], **params: str | int | list[str] | None) -> Call[T]:
    """Return a read-only call; parameters that are None are left out."""
    return Call("GET", path, parse, params=drop_none(**params), retry_when=RetryWhen.ALWAYS)


def drop_none(**params: str | int | list[str] | None) -> dict[str, str | int | list[str]]:
    """Return the parameters that are not None."""
    return {name: value for name, value in params.items() if value is not None}


def to_request_body(model: BaseModel) -> Any:
    """Return a model as JSON: only fields that were set, so that the service's defaults apply, and secrets in clear."""
    return to_jsonable_python(_reveal_secrets(model.model_dump(by_alias=True, include=set(model.model_fields_set))))


def _reveal_secrets(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {name: _reveal_secrets(each) for name, each in value.items()}
    return [_reveal_secrets(each) for each in value] if isinstance(value, list | tuple) else value


def encode_segment(value: str) -> str:
    """Return `value` as one segment of a path: an id with a slash must not become another path.

    Raises InvalidArgument if it cannot be one.
    """
    if not value.strip("."):
        raise InvalidArgument("id", "must not be empty or only dots; give the whole id")
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        raise InvalidArgument("id", "must be UTF-8 text") from None


def check_header(argument: str, value: str) -> str:
    """Return `value`, given as `argument`, for a header: printable ASCII without space around it (RFC 9110, 5.5).

    Raises InvalidArgument if it is anything else.
    """
    if value != value.strip():
        raise InvalidArgument(
            argument, "must not begin or end with a space or a line break; a file with Windows line ends leaves one"
        )
    if not (value.isascii() and value.isprintable()):
        raise InvalidArgument(argument, "must be printable ASCII; an HTTP header takes no other characters")
    return value
