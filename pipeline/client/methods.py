"""The methods of both clients, each named once: a call is a value, and a transport performs it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import wraps
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar, overload

from pipeline.client import change_requests, export_requests, operator_requests, order_requests, plan_requests
from pipeline.client.request import Call, ResultPage

P = ParamSpec("P")
T = TypeVar("T")


class ApiTransport(ABC):
    """Performs calls and returns their answers."""

    @abstractmethod
    def perform(self, call: Call[T]) -> T:
        """Make the call, with retries if they may help, and return the parsed answer."""

    @abstractmethod
    def iterate(self, page: ResultPage[T]) -> Iterator[T]:
        """Yield the items of all pages, calling for each next page."""


class AsyncApiTransport(ABC):
    """Performs calls for asyncio."""

    @abstractmethod
    async def perform(self, call: Call[T]) -> T:
        """Make the call, with retries if they may help, and return the parsed answer."""

    @abstractmethod
    def iterate(self, page: ResultPage[T]) -> AsyncIterator[T]:
        """Yield the items of all pages, calling for each next page."""


class Operation(Generic[P, T]):
    """A call as a method: on a ApiTransport it returns the answer, on an AsyncApiTransport an awaitable."""

    def __init__(self, describe: Callable[P, Call[T]]) -> None:
        self._describe = describe
        self.__doc__ = describe.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: ApiTransport, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncApiTransport, owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, client: ApiTransport | AsyncApiTransport | None, owner: type) -> Any:
        if client is None:
            return self
        describe, perform = self._describe, client.perform

        @wraps(describe)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return perform(describe(*args, **kwargs))

        return method


class Listing(Generic[P, T]):
    """A list of pages as a method: on a ApiTransport it gives an iterator, on an AsyncApiTransport an asynchronous one."""

    def __init__(self, describe: Callable[P, ResultPage[T]]) -> None:
        self._describe = describe
        self.__doc__ = describe.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: ApiTransport, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: AsyncApiTransport, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, client: ApiTransport | AsyncApiTransport | None, owner: type) -> Any:
        if client is None:
            return self
        describe, iterate = self._describe, client.iterate

        @wraps(describe)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return iterate(describe(*args, **kwargs))

        return method


class ApiMethods:
    """All calls of the API; `export_requests.py`, `plan_requests.py`, `change_requests.py`, `order_requests.py` and `operator_requests.py` beside this file describe each."""

    execute: Final = Operation(export_requests.execute)
    execute_registered: Final = Operation(export_requests.execute_registered)
    register_plan: Final = Operation(plan_requests.register_plan)
    plan: Final = Operation(plan_requests.plan)
    plans: Final = Listing(plan_requests.plans)
    preflight: Final = Operation(plan_requests.preflight)
    proforma: Final = Operation(plan_requests.proforma)
    registered_proforma: Final = Operation(plan_requests.registered_proforma)
    inspect: Final = Operation(export_requests.inspect)
    inspect_version: Final = Operation(export_requests.inspect_version)
    inspect_if_changed: Final = Operation(export_requests.inspect_if_changed)
    export_page: Final = Operation(export_requests.export_page)
    exports: Final = Listing(export_requests.exports)
    events: Final = Listing(export_requests.events)
    account_events: Final = Listing(export_requests.account_events)
    cancel: Final = Operation(change_requests.cancel)
    hold: Final = Operation(change_requests.hold)
    release: Final = Operation(change_requests.release)
    withdraw: Final = Operation(change_requests.withdraw)
    retry: Final = Operation(change_requests.retry)
    amend: Final = Operation(export_requests.amend)
    attach: Final = Operation(change_requests.attach)
    attach_to_handoff: Final = Operation(change_requests.attach_to_handoff)
    reply: Final = Operation(change_requests.reply)
    import_filed_entries: Final = Operation(change_requests.import_filed_entries)
    conversation: Final = Listing(change_requests.conversation)
    inbox: Final = Operation(export_requests.inbox)
    deadlines: Final = Listing(export_requests.deadlines)
    calendar_link: Final = Operation(export_requests.calendar_link)
    revoke_calendar_links: Final = Operation(export_requests.revoke_calendar_links)
    acknowledge_export: Final = Operation(change_requests.acknowledge_export)
    reopen_export: Final = Operation(change_requests.reopen_export)
    customs_package: Final = Operation(export_requests.customs_package)
    download: Final = Operation(export_requests.download)
    document_link: Final = Operation(export_requests.document_link)
    bundle: Final = Operation(export_requests.bundle)
    files: Final = Listing(export_requests.files)

    sync_products: Final = Operation(order_requests.sync_products)
    sync_orders: Final = Operation(order_requests.sync_orders)
    sync_plan_templates: Final = Operation(order_requests.sync_plan_templates)
    order: Final = Operation(order_requests.order)
    delete_order: Final = Operation(order_requests.delete_order)
    plan_orders: Final = Operation(order_requests.plan_orders)

    partners: Final = Listing(operator_requests.partners)
    partner: Final = Operation(operator_requests.partner)
    create_partner: Final = Operation(operator_requests.create_partner)
    change_partner: Final = Operation(operator_requests.change_partner)
    test_partner: Final = Operation(operator_requests.test_partner)
    activate_partner: Final = Operation(operator_requests.activate_partner)
    rotate_secret: Final = Operation(operator_requests.rotate_secret)
    pause_partner: Final = Operation(operator_requests.pause_partner)
    resume_partner: Final = Operation(operator_requests.resume_partner)

    delivery_page: Final = Operation(operator_requests.delivery_page)
    deliveries: Final = Listing(operator_requests.deliveries)
    delivery: Final = Operation(operator_requests.delivery)
    payload: Final = Operation(operator_requests.payload)
    trace: Final = Operation(operator_requests.trace)
    document_links: Final = Operation(operator_requests.document_links)
    resend: Final = Operation(operator_requests.resend)
    acknowledge_delivery: Final = Operation(operator_requests.acknowledge_delivery)
    reopen_delivery: Final = Operation(operator_requests.reopen_delivery)
    replay: Final = Listing(operator_requests.replay)
    acknowledge: Final = Operation(operator_requests.acknowledge)
    sandbox_answer: Final = Operation(operator_requests.sandbox_answer)
    sandbox_handoffs: Final = Listing(operator_requests.sandbox_handoffs)

    whoami: Final = Operation(operator_requests.whoami)
    print_settings: Final = Operation(operator_requests.print_settings)
    change_print_settings: Final = Operation(operator_requests.change_print_settings)
    deadline_leads: Final = Operation(operator_requests.deadline_leads)
    change_deadline_leads: Final = Operation(operator_requests.change_deadline_leads)
    test_clock: Final = Operation(operator_requests.test_clock)
    move_test_clock: Final = Operation(operator_requests.move_test_clock)
    reset_test_clock: Final = Operation(operator_requests.reset_test_clock)
    decide_headings: Final = Operation(operator_requests.decide_headings)
    waivers: Final = Operation(operator_requests.waivers)
    waive: Final = Operation(operator_requests.waive)
    revoke_waiver: Final = Operation(operator_requests.revoke_waiver)
    tariff_number: Final = Operation(operator_requests.tariff_number)
    stats: Final = Operation(operator_requests.stats)
    health: Final = Operation(operator_requests.health)
