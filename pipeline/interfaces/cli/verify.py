"""`exports verify`: checks that a bundle is complete and that every format in it carries the plan's treatment."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.text import Text

from pipeline.interfaces.cli.output import (
    ExitCode,
    Failure,
    Json,
    build_table,
    print_json,
    report_errors,
    show_progress,
    stdout_console,
)
from pipeline.ops.verification import verifier

app = typer.Typer()

_PROOFS = {"treatment": "treatment", "digests": "stated digests", "bytes": "bytes"}


@app.command()
@report_errors
def verify(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="The zip file from `exports artifacts ID --out DIR --bundle`.")
    ],
    as_json: Json = False,
) -> None:
    """Prove offline that a bundle is unchanged and that its formats carry the plan's treatment."""
    try:
        with show_progress("checking the bundle") as show:
            report = verifier.verify_bundle(bundle, partial(show, "checking files"))
    except OSError as error:
        raise Failure(f"{bundle} cannot be read: {error.strerror}", code=ExitCode.NOT_FOUND) from error
    except verifier.UnreadableBundle as error:
        raise Failure(f"{bundle} is not a bundle: {error}", remedy="Download it again.") from error
    if as_json:
        print_json(_to_json(report))
    else:
        _print_result(report)
    if not report.intact:
        raise typer.Exit(int(ExitCode.REFUSED))


def _to_json(report: verifier.BundleReport) -> dict[str, object]:
    return {
        "intact": report.intact,
        "batchId": report.batch_id,
        "planHash": report.plan_hash,
        "treatmentDigest": report.treatment_digest,
        "container": report.container,
        "checks": [
            {"artifactType" if name == "artifact_type" else name: value for name, value in asdict(check).items()}
            for check in report.checks
        ],
    }


def _print_result(report: verifier.BundleReport) -> None:
    rows = (
        (
            Text("✓", "green") if check.failure is None else Text("✗", "bold red"),
            check.path,
            _PROOFS[check.proof],
            "" if check.lines is None else str(check.lines),
            "" if check.digest is None else check.digest.removeprefix("sha256:")[:12],
            check.failure or "",
        )
        for check in report.checks
    )
    console = stdout_console()
    console.print(build_table(("", "file", "verified by", "lines", "digest", "difference"), rows))
    if report.container is not None:
        console.print(f"[bold red]✗[/] {escape(report.container)}", soft_wrap=True)
    failing = sum(check.failure is not None for check in report.checks) + (report.container is not None)
    verdict = "[green]✓[/] the bundle is intact" if report.intact else f"[bold red]✗[/] {failing} checks fail"
    console.print(f"{verdict}: batch {escape(str(report.batch_id))}", soft_wrap=True)
    console.print(f"  plan      {escape(str(report.plan_hash))}", soft_wrap=True)
    console.print(f"  treatment {escape(str(report.treatment_digest))}", soft_wrap=True)
