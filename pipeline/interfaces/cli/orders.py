"""`exports orders`, `exports products` and `exports plan-templates`: sync them from a file, and plan a batch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from pipeline.client import Exports
from pipeline.interfaces.cli.connection import ApiKey, ApiUrl, connect
from pipeline.interfaces.cli.output import ExitCode, Json, build_table, print_result, report_errors
from pipeline.interfaces.cli.plans import read_plan
from pipeline.orders.views import OrderView, PlanAnswer, SyncReceipt

app = typer.Typer(no_args_is_help=True, help="Orders, from which batches are planned.")
products_app = typer.Typer(no_args_is_help=True, help="The customs data of products, from which plans are built.")
templates_app = typer.Typer(no_args_is_help=True, help="The facts that all plans to a country share.")

BodyFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="JSON with `accountId` and `items`; `-` reads standard input.")
]


@app.command("sync")
@report_errors
def sync_orders(file: BodyFile, api_url: ApiUrl = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Create or replace orders by their externalId."""
    _sync(file, api_url, api_key, lambda api, body: api.sync_orders(body), as_json=as_json)


@products_app.command("sync")
@report_errors
def sync_products(file: BodyFile, api_url: ApiUrl = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Create or replace products by their externalId."""
    _sync(file, api_url, api_key, lambda api, body: api.sync_products(body), as_json=as_json)


@templates_app.command("sync")
@report_errors
def sync_templates(file: BodyFile, api_url: ApiUrl = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Create or replace plan templates by their destinationCountry."""
    _sync(file, api_url, api_key, lambda api, body: api.sync_plan_templates(body), as_json=as_json)


OrderId = Annotated[str, typer.Argument(metavar="ID", help="The order's id, or its externalId.")]


@app.command("show")
@report_errors
def show(order: OrderId, api_url: ApiUrl = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Show an order as it was synced, and its batch."""
    with connect(api_url, api_key) as api:
        found = api.order(order)
    print_result(found, _format_order(found), as_json=as_json)


@app.command("delete")
@report_errors
def delete(order: OrderId, api_url: ApiUrl = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Delete an order that was not exported."""
    with connect(api_url, api_key) as api:
        deleted = api.delete_order(order)
    print_result(deleted, f"[green]✓[/] order {escape(deleted.external_id)} is deleted", as_json=as_json)


@app.command("plan")
@report_errors
def plan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The plan request as JSON; `-` reads standard input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the result, and store nothing.")] = False,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Plan a batch from orders; name what is missing. Exit code 6 if the plan cannot be executed yet."""
    body = read_plan(file)
    with connect(api_url, api_key) as api:
        answer = api.plan_orders(body | {"dryRun": True} if dry_run else body)
    print_result(answer, _format_answer(answer), as_json=as_json)
    if answer.readiness_state == "BLOCKED":
        raise typer.Exit(int(ExitCode.NEEDS_PERSON))


def _sync(
    file: Path,
    api_url: str | None,
    api_key: str | None,
    call: Callable[[Exports, Mapping[str, Any]], SyncReceipt],
    *,
    as_json: bool,
) -> None:
    body = read_plan(file)
    with connect(api_url, api_key) as api:
        receipt = call(api, body)
    table = build_table(
        ("id", "external id", "version", "change"),
        ((each.id, each.external_id, str(each.version), each.change) for each in receipt.data),
    )
    print_result(receipt, table, as_json=as_json)


def _format_answer(answer: PlanAnswer) -> str:
    colour = {"READY": "green", "READY_WITH_WARNINGS": "yellow"}.get(answer.readiness_state, "red")
    lines = [
        f"[{colour}]{answer.readiness_state}[/]  [bold]{escape(answer.batch_id)}[/]  {escape(answer.status)}",
        *(
            f"  [dim]{each.severity:<5}[/] {escape(each.code)} {escape(each.path)}\n        {escape(each.message)}"
            for each in answer.validation_messages
        ),
        f"  {escape(answer.next_recommended_action)}",
    ]
    return "\n".join(lines)


def _format_order(order: OrderView) -> str:
    place = order.export_id or order.batch_id or "in no batch"
    goods = "\n".join(f"  {each['quantity']} x {escape(str(each['productId']))}" for each in order.order["items"])
    return (
        f"[bold]{escape(order.external_id)}[/]  {escape(order.id)}  version {order.version}  {escape(place)}\n{goods}"
    )
