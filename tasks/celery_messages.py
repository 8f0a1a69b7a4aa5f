"""Commands that another Celery app sends with `send_task`, and their results in the form that Celery reads (task protocol 2)."""

import json
from collections.abc import Mapping
from typing import Any, Final

from kombu import Message

from pipeline.core.errors import InvalidRequest
from pipeline.core.json_input import check_shape, load_json
from tasks.messages import Reply, raw_body

#: The task's name. No worker has this task: the intake reads its messages.
TASK: Final = "exports.execute"

#: How long Redis keeps results that nobody reads; as long as Celery's default.
RESULT_SECONDS: Final = 86_400

#: What Celery would do before or after the task -> how a caller asks for it
_UNSUPPORTED_HEADERS: Final = {"eta": "countdown or eta", "expires": "expires"}
_UNSUPPORTED_EMBEDS: Final = {"callbacks": "link", "errbacks": "link_error", "chain": "chain", "chord": "chord"}
#: The list and the object around a command.
_OUTER_LEVELS: Final = 1


def read_command(task: str, message: Message, *, max_depth: int) -> bytes:
    """Return the command, the call's named arguments, as JSON.

    Raises InvalidRequest if the message calls another task, or asks for what the intake does not do.
    """
    if task != TASK:
        raise InvalidRequest(f"there is no task {task[:64]!r}; call {TASK}")
    if message.content_type != "application/json":
        raise InvalidRequest(
            f"the call is {str(message.content_type)[:64]!r}, not JSON; send it with serializer='json'"
        )
    body = raw_body(message)
    check_shape(body, max_depth + _OUTER_LEVELS)
    call = load_json(body)
    if not isinstance(call, list) or len(call) != 3:
        raise InvalidRequest("the body must be [args, kwargs, embed], as in Celery's task protocol 2")
    positional, named, embedded = call
    if positional or not isinstance(named, dict):
        raise InvalidRequest(f"{TASK} takes no args; give the command as kwargs")
    asked = [*_asked_for(message.headers, _UNSUPPORTED_HEADERS), *_asked_for(embedded, _UNSUPPORTED_EMBEDS)]
    if asked:
        raise InvalidRequest(f"{TASK} does not support {' and '.join(asked)}; call it without")
    return json.dumps(named).encode()


def _asked_for(given: object, names: Mapping[str, str]) -> list[str]:
    return [text for name, text in names.items() if isinstance(given, Mapping) and given.get(name)]


def build_result(reply: Reply, task_id: str) -> Reply:
    """Return the reply as Celery's result: its value, or for a problem document an exception named after the error code."""
    value: Any = json.loads(reply.body)
    status = "SUCCESS"
    if reply.is_refusal:
        status = "FAILURE"
        value = {"exc_type": value["errorCode"], "exc_message": [value["message"], value], "exc_module": "exports"}
    result = {"task_id": task_id, "status": status, "result": value, "traceback": None, "children": []}
    return Reply("application/json", json.dumps(result).encode())
