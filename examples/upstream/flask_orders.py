"""A Flask shop that exports an order over HTTP: flask --app flask_orders run.

It needs EXPORTS_API_URL and EXPORTS_API_KEY, a key with the role `execute`.
"""

from __future__ import annotations

import os

from exports_client import ApiProblem, Exports
from flask import Flask, Response, jsonify, request

app = Flask(__name__)
exports = Exports(os.environ["EXPORTS_API_URL"], os.environ["EXPORTS_API_KEY"])


@app.post("/orders/<batch>/export")
def export_order(batch: str) -> tuple[Response, int]:
    """Execute the plan of an order. The client retries with the same key until the service has answered."""
    plan = request.get_json()
    try:
        export = exports.execute(plan, idempotency_key=f"order-{batch}").export
    except ApiProblem as problem:
        return jsonify(error=problem.code, field=problem.problem.field, message=str(problem)), 422
    return jsonify(exportId=export.export_id, state=export.state), 202


@app.get("/orders/<batch>/export")
def show_export(batch: str) -> tuple[Response, int]:
    """Show how the export stands."""
    export = exports.inspect(batch)
    return jsonify(exportId=export.export_id, outcome=export.outcome), 200
