"""The console's inbox: everything that needs a person, with the remedies as buttons, one by one and in bulk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pipeline.accounts.api_keys import OPERATE, Caller
from pipeline.core.errors import Refused, ValidationFailed
from pipeline.core.templating import render
from pipeline.interfaces.console import inbox_views
from pipeline.interfaces.console.exports import (
    find_caller,
    get_runtime,
    page_context,
    page_response,
    redirect_to_sign_in,
    refused_page,
)
from pipeline.interfaces.console.session import check_csrf_token, read_form_lists
from pipeline.workflow import inbox
from pipeline.workflow.inbox import Remedy
from pipeline.workflow.steps import TaskMessage

router = APIRouter(prefix="/console/inbox", include_in_schema=False)

#: Room for the ids of all items of a group.
_MAX_FORM_BYTES: Final = 64 * inbox.MOST_ITEMS + 4096


@dataclass(frozen=True)
class _ChosenRemedy:
    """What a person chose: a remedy, and what to apply it to."""

    remedy: Remedy
    targets: list[str]


@router.get("")
def show_inbox(request: Request) -> Response:
    """Show what needs a person, grouped by cause, most urgent first."""
    runtime, caller = get_runtime(request), find_caller(request)
    if caller is None:
        return redirect_to_sign_in()
    groups = inbox.load_inbox(runtime, caller.account_id)
    return page_response(
        render(
            "console/inbox.html",
            **page_context(request, caller),
            groups=[inbox_views.show_group(each) for each in groups],
            operates=caller.has_role(OPERATE),
        )
    )


@router.post("/review")
async def review_choice(request: Request) -> Response:
    """Say what the chosen remedy will do, and ask whether to do it; nothing is changed."""
    return await run_in_threadpool(_follow_choice, request, await read_form_lists(request, _MAX_FORM_BYTES), _review)


@router.post("/apply")
async def apply_choice(request: Request) -> Response:
    """Apply the remedy to each chosen item, and show what was done and what was refused."""
    return await run_in_threadpool(_follow_choice, request, await read_form_lists(request, _MAX_FORM_BYTES), _apply)


def _follow_choice(
    request: Request, form: Mapping[str, list[str]], answer: Callable[[Request, Caller, _ChosenRemedy], Response]
) -> Response:
    # All in one thread: tenancy, which decides the visible rows, is set for this thread only.
    caller = find_caller(request)
    if caller is None:
        return redirect_to_sign_in()
    try:
        choice = _read_choice(request, caller, form)
    except Refused as refused:
        return refused_page(request, caller, refused)
    return answer(request, caller, choice)


def _review(request: Request, caller: Caller, choice: _ChosenRemedy) -> Response:
    review = inbox_views.build_review(choice.remedy, choice.targets)
    return page_response(render("console/inbox_review.html", **page_context(request, caller), review=review))


def _apply(request: Request, caller: Caller, choice: _ChosenRemedy) -> Response:
    tasks: list[TaskMessage] = []
    results: dict[str, str | None] = {}
    for target in choice.targets:
        try:
            tasks += inbox.apply_remedy(get_runtime(request), caller, choice.remedy, target)
        except Refused as refused:
            results[target] = refused.message
        else:
            results[target] = None
    request.app.state.publisher.publish(tasks)
    shown = inbox_views.build_results(choice.remedy, results)
    return page_response(render("console/inbox_results.html", **page_context(request, caller), results=shown))


def _read_choice(request: Request, caller: Caller, form: Mapping[str, list[str]]) -> _ChosenRemedy:
    check_csrf_token(get_runtime(request), request, {name: values[0] for name, values in form.items()})
    caller.require(OPERATE)
    remedy, targets = form.get("remedy", [""])[0], [*dict.fromkeys(form.get("target", []))]
    if remedy not in {*Remedy}:
        raise ValidationFailed("the form names no remedy; choose a button of the inbox")
    if not targets:
        raise ValidationFailed("nothing was chosen; tick at least one row")
    return _ChosenRemedy(Remedy(remedy), targets[: inbox.MOST_ITEMS])
