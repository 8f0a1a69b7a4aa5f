"""The settings of the command line, of steps and of customs rules."""

from base64 import b64decode
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, SecretStr

from config.network import LOOPBACK

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]

#: The length of a public key of Ed25519.
_KEY_BYTES = 32


def _check_rules_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys without spaces around them; raise ValueError for one that is not a public key of Ed25519."""
    return tuple(map(_check_key, keys))


def _check_key(text: str) -> str:
    key = text.strip()
    try:
        length = len(b64decode(key, validate=True))
    except ValueError:
        length = 0
    if length != _KEY_BYTES:
        raise ValueError(f"{key!r} is not a public key of Ed25519 in base64; `exports rules key FILE` prints yours")
    return key


class ExecutionSettings(BaseModel):
    """The command line, execution, and customs rules."""

    # The API that the command line calls
    api_url: str = Field(f"http://{LOOPBACK}:8000", description="The API that the `exports` command calls")
    api_key: SecretStr | None = Field(None, description="The key that the `exports` command sends")
    profile: str | None = Field(None, description="The profile of `exports login`, unless one of the two above is set")
    account: str | None = Field(None, description="The account of `exports` commands without `--account`")

    # Execution
    lease_seconds: Seconds = Field(30, description="How long a step or delivery stays leased without renewal")
    step_max_attempts: Count = Field(5, description="Attempts of a step before the export fails; outages do not count")
    step_timeout_seconds: Seconds = Field(
        600, description="Longest time for a step that sends nothing; after it the worker ends itself"
    )
    step_retry_seconds: Seconds = Field(2, description="Pause after a failed step; it doubles, up to a minute")
    sweep_seconds: Seconds = Field(2, description="Pause between sweeps of a worker for stalled work; 20 % jitter")
    sweep_limit: Count = Field(
        100,
        description="Maximum task messages that the sweeper keeps in a queue; a full queue still gets five a second",
    )
    stalled_seconds: Seconds = Field(
        10, description="Age at which the sweeper replaces a task message; 10 x in a backlog"
    )

    # Customs rules
    rules: Path | None = Field(None, description="Folder or signed bundle of customs rules; default: this version's")
    rules_keys: Annotated[tuple[str, ...], AfterValidator(_check_rules_keys)] = Field(
        (), description="Public keys of those who may sign rules; with one, a folder needs a signature, too"
    )
