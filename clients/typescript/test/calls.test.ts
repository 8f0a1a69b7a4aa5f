/** What the client sends, retries and throws, against a server with scripted answers. */

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  ApiProblem,
  ApiUnreachable,
  ClientError,
  Corrupted,
  Exports,
  InvalidArgument,
  NO_RETRIES,
  StillRunning,
} from "exports-client";

import { cut, event, json, noContent, problem, type Script, ScriptedServer, stream } from "./server.js";

const id = "exp_1";
const path = { params: { path: { id } } };
const busy = problem(503, "NOT_READY");

/** The calls that may be repeated without a further effect. */
const REPEATABLE: Record<string, (api: Exports) => Promise<unknown>> = {
  read: (api) => api.GET("/api/exports/{id}", path),
  execute: (api) => api.POST("/api/exports/execute", { body: { accountId: "acc_1", batchId: "batch_1" } }),
  "acknowledge a handoff": (api) =>
    api.POST("/api/broker-submissions/{id}/acknowledgements", { ...path, body: { id: "a-1", status: "accepted" } }),
  "change a partner": (api) => api.PATCH("/api/partners/{id}", { ...path, body: { name: "W" } }),
  "amend with a key": (api) =>
    api.POST("/api/exports/{id}/amend", {
      params: { ...path.params, header: { "Idempotency-Key": "order-1" } },
      body: { accountId: "acc_1", batchId: "batch_1" },
    }),
};

const CHANGING: Record<string, (api: Exports) => Promise<unknown>> = {
  cancel: (api) => api.POST("/api/exports/{id}/cancel", path),
  resend: (api) => api.POST("/api/deliveries/{id}/resend", path),
  "revoke a waiver": (api) => api.DELETE("/api/waivers/{id}", path),
  "amend without a key": (api) =>
    api.POST("/api/exports/{id}/amend", { ...path, body: { accountId: "acc_1", batchId: "batch_1" } }),
};

for (const [name, call] of Object.entries(REPEATABLE)) {
  for (const failure of [cut, busy, problem(409, "IDEMPOTENCY_IN_PROGRESS"), problem(500, "INTERNAL_ERROR"), gateway()]) {
    test(`${name}: sent again, unchanged, after ${failure.name || "an error"}`, async (t) => {
      const server = await ScriptedServer.start(t, failure, failure, json({}));
      await call(server.client());
      assert.equal(server.requests.length, 3);
      assert.equal(new Set(server.requests.map(({ method, path, body }) => method + path + body)).size, 1);
    });
  }
}

for (const [name, call] of Object.entries(CHANGING)) {
  for (const failure of [cut, busy, problem(500, "INTERNAL_ERROR"), gateway()]) {
    test(`${name}: not sent again after ${failure.name || "an error"}`, async (t) => {
      const server = await ScriptedServer.start(t, failure, json({}));
      await assert.rejects(call(server.client()), ClientError);
      assert.equal(server.requests.length, 1);
    });
  }

  test(`${name}: sent again after "too many requests"`, async (t) => {
    const server = await ScriptedServer.start(t, problem(429, "RATE_LIMITED"), json({}));
    await call(server.client());
    assert.equal(server.requests.length, 2);
  });
}

test("a call that no server takes is sent again, also if it changes something", async (t) => {
  const server = await ScriptedServer.start(t, json({}));
  const gone = await ScriptedServer.start(t, json({}));
  gone.stop();
  let refused = 2;
  const fetch = async (request: Request): Promise<Response> =>
    globalThis.fetch(refused-- > 0 ? new Request(gone.url, { method: "POST" }) : request);
  await server.client({ fetch }).POST("/api/exports/{id}/cancel", path);
  assert.equal(server.requests.length, 1);
});

test("retries are bounded in number, and in time by what the service asks", async (t) => {
  const server = await ScriptedServer.start(t, busy);
  await assert.rejects(server.client().GET("/api/exports/{id}", path), ApiProblem);
  assert.equal(server.requests.length, 4);

  await assert.rejects(server.client({ retries: NO_RETRIES }).GET("/api/exports/{id}", path), ApiProblem);
  assert.equal(server.requests.length, 5);

  const later = await ScriptedServer.start(t, problem(503, "NOT_READY", {}, { "Retry-After": "3600" }));
  await assert.rejects(later.client().GET("/api/exports/{id}", path), ApiProblem);
  assert.equal(later.requests.length, 1);
});

test("a refusal is a typed error with code, field, issues, remedy and help", async (t) => {
  const issues = [{ path: "plan.units", pointer: "/plan/units", message: "must not be empty", code: "too_short" }];
  const server = await ScriptedServer.start(
    t,
    problem(400, "VALIDATION_ERROR", { field: "plan.units", pointer: "/plan/units", details: { issues }, help: "/docs/problems#VALIDATION_ERROR" }),
  );
  const error = await catchError(server.client().POST("/api/exports/plans", { body: {} as never }));
  assert.ok(error instanceof ApiProblem);
  assert.equal(error.name, "ApiProblem");
  assert.deepEqual([error.code, error.status, error.field, error.issues], ["VALIDATION_ERROR", 400, "plan.units", issues]);
  assert.equal(error.pointer, "/plan/units");
  assert.match(error.remedy ?? "", /^Correct each field/);
  assert.equal(error.help, `${server.url}/docs/problems#VALIDATION_ERROR`);
  assert.equal(error.requestId, "req_1");
  assert.equal(error.retryAfterSeconds, undefined);
});

test("an unknown code has no remedy, and an instant of Retry-After counts from the answer's date", async (t) => {
  const dates = { Date: "Tue, 24 Nov 2026 10:00:00 GMT", "Retry-After": "Tue, 24 Nov 2026 11:00:00 GMT" };
  const server = await ScriptedServer.start(t, problem(429, "OF_A_LATER_VERSION", {}, dates));
  const error = await catchError(server.client().GET("/api/exports/{id}", path));
  assert.ok(error instanceof ApiProblem);
  assert.deepEqual([error.code, error.remedy, error.help, error.retryAfterSeconds], ["OF_A_LATER_VERSION", undefined, undefined, 3600]);
});

for (const [name, script] of Object.entries<Script>({
  "a page": (response) => response.writeHead(200).end("<html>"),
  "a redirect": (response) => response.writeHead(307, { Location: "http://127.0.0.1:9/" }).end(),
  "an error page": (response) => response.writeHead(404).end("<html>"),
  "another JSON error": json({ detail: "Not Found" }, 404),
})) {
  test(`${name} instead of the API is named`, async (t) => {
    const server = await ScriptedServer.start(t, script);
    const error = await catchError(server.client().GET("/api/exports/{id}", path));
    assert.ok(error instanceof ApiUnreachable);
    assert.match(error.message, /^http:\/\/127\.0\.0\.1:\d+\/api.* (answers|answered)/);
    assert.equal(server.requests.length, 1);
  });
}

test("an attempt ends after the timeout, and is repeated", async (t) => {
  const silent: Script = () => undefined;
  const server = await ScriptedServer.start(t, silent, json({ exportId: id }));
  const { data } = await server.client({ timeoutMs: 100 }).GET("/api/exports/{id}", path);
  assert.equal(data.exportId, id);

  const error = await catchError((await ScriptedServer.start(t, silent)).client().POST("/api/exports/{id}/cancel", { ...path, timeoutMs: 50 }));
  assert.ok(error instanceof ApiUnreachable);
  assert.match(error.message, /did not answer within 50 ms$/);
});

test("a signal ends a call, a pause and a stream, and its reason is thrown", async (t) => {
  const reason = new Error("the page was left");
  const server = await ScriptedServer.start(t, stream(event(1), "open"));
  const seen: number[] = [];
  const control = new AbortController();
  await assert.rejects(
    (async () => {
      for await (const each of server.client().events(id, { signal: control.signal })) {
        seen.push(each.seq);
        control.abort(reason);
      }
    })(),
    reason,
  );
  assert.deepEqual(seen, [1]);

  const waits = await ScriptedServer.start(t, problem(503, "NOT_READY", {}, { "Retry-After": "20" }));
  const during = new AbortController();
  const call = waits.client().GET("/api/exports/{id}", { ...path, signal: during.signal });
  setTimeout(() => during.abort(reason), 100);
  await assert.rejects(call, reason);
  await assert.rejects(waits.client().GET("/api/exports/{id}", { ...path, signal: AbortSignal.abort(reason) }), reason);
  assert.equal(waits.requests.length, 1);
});

test("a broken stream continues after its last event, and ends when no more follow", async (t) => {
  const server = await ScriptedServer.start(
    t,
    stream(`: the log\n\n${event(1)}${event(2)}data: {"seq`, "break"),
    cut,
    busy,
    stream(event(3)),
    noContent,
  );
  const seen: number[] = [];
  for await (const each of server.client().events("batch/1 ä", { after: 0 })) seen.push(each.seq);
  assert.deepEqual(seen, [1, 2, 3]);
  assert.deepEqual(server.requests.map(({ headers }) => headers["last-event-id"]), ["0", "2", "2", "2", "3"]);
  assert.equal(server.requests[0]?.path, "/api/exports/batch%2F1%20%C3%A4/events");
  assert.equal(server.requests[0]?.headers.authorization, "Bearer exp_test_1");
});

test("a broken stream of the account's feed continues after its last event", async (t) => {
  const first = event(7) + event(8, "HANDED_OFF") + "id: exp_1.9";
  const server = await ScriptedServer.start(t, stream(first, "break"), cut, busy, stream(event(9)));
  const seen: string[] = [];
  for await (const each of server.client().accountEvents({ types: ["HANDED_OFF", "EXPORT_FAILED"] })) {
    seen.push(each.id);
    if (seen.length === 3) break;
  }
  assert.deepEqual(seen, ["exp_1.7", "exp_1.8", "exp_1.9"]);
  assert.deepEqual(server.requests.map(({ headers }) => headers["last-event-id"]), [undefined, "exp_1.8", "exp_1.8", "exp_1.8"]);
  assert.deepEqual([...new Set(server.requests.map(({ path }) => path))], ["/api/events?type=HANDED_OFF&type=EXPORT_FAILED"]);
  await server.client().accountEvents({ after: "exp_1.8" }).next();
  assert.equal(server.requests.at(-1)?.headers["last-event-id"], "exp_1.8");
});

test("a stream that is refused, or holds something else, is an error", async (t) => {
  const refused = await ScriptedServer.start(t, problem(404, "NOT_FOUND"));
  await assert.rejects(refused.client().events(id).next(), ApiProblem);
  assert.equal(refused.requests.length, 1);
});

test("waiting ends when the export has ended, and throws when the time is up", async (t) => {
  const running = json({ exportId: id, state: "executing", events: [{ seq: 4 }] });
  const ended = json({ exportId: id, state: "failed", events: [] });
  const server = await ScriptedServer.start(t, running, stream(event(5) + event(6, "EXPORT_FAILED"), "open"), ended);
  assert.equal((await server.client().waitForExport("batch_1")).state, "failed");
  assert.deepEqual(server.requests.map(({ path }) => path), [
    "/api/exports/batch_1",
    "/api/exports/exp_1/events",
    "/api/exports/batch_1",
  ]);
  assert.equal(server.requests[1]?.headers["last-event-id"], "4");

  const never = await ScriptedServer.start(t, running, stream(event(5), "open"));
  await assert.rejects(never.client().waitForExport(id, { timeoutMs: 200 }), StillRunning);
});

test("a file is sent as it is, with the type of its name, and again after a failure", async (t) => {
  const file = { id: "att_1" };
  const server = await ScriptedServer.start(t, busy, json(file));
  const api = server.client();
  assert.deepEqual(await api.attach({ exportId: id }, "Entry 7501.PDF", new TextEncoder().encode("%PDF-1.7")), file);
  assert.deepEqual(await api.attach({ submissionId: "sub_1" }, "a.csv", new Blob(["a,b"])), file);
  const sent = server.requests.map(({ path, headers, body }) => [path, headers["content-type"], body]);
  const first = [`/api/exports/${id}/attachments?filename=Entry%207501.PDF`, "application/pdf", "%PDF-1.7"];
  assert.deepEqual(sent, [first, first, ["/api/broker-submissions/sub_1/attachments?filename=a.csv", "text/csv", "a,b"]]);
  await assert.rejects(api.attach({ exportId: id }, "a.exe", new Uint8Array()), InvalidArgument);
  assert.equal(server.requests.length, 3);
});

test("a document with another hash is refused", async (t) => {
  const server = await ScriptedServer.start(t, (response) => response.writeHead(200).end("bytes"));
  const artifact = { id: "art_1", filename: "invoice.pdf", sha256: "0".repeat(64) };
  await assert.rejects(server.client().download(artifact), Corrupted);
  const sha256 = "277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9";
  assert.equal(new TextDecoder().decode(await server.client().download({ ...artifact, sha256 })), "bytes");
});

test("what cannot be sent is refused before, and does not repeat a secret", async (t) => {
  const server = await ScriptedServer.start(t, json({}));
  for (const url of ["exports.example", "ftp://exports.example", "", "http://user:secret@exports.example"]) {
    assert.throws(() => new Exports({ url, key: "k" }), InvalidArgument, url);
  }
  for (const key of ["", "key\r\n", "schlüssel", " key"]) {
    assert.throws(() => new Exports({ url: server.url, key }), (error) => error instanceof InvalidArgument && error.argument === "key");
  }
  for (const bad of ["", ".", ".."]) {
    await assert.rejects(server.client().GET("/api/exports/{id}", { params: { path: { id: bad } } }), InvalidArgument);
  }
  const headers = { "Idempotency-Key": "line\nbreak" };
  await assert.rejects(
    server.client().POST("/api/exports/execute", { params: { header: headers }, body: { accountId: "a", batchId: "b" } }),
    InvalidArgument,
  );
  assert.equal(server.requests.length, 0);
});

test("a call with a wrong path, parameter or body does not compile", () => {
  const api = new Exports({ url: "http://127.0.0.1:9" });
  const calls = [
    // @ts-expect-error - no such path
    () => api.GET("/api/export"),
    // @ts-expect-error - the id is missing
    () => api.GET("/api/exports/{id}"),
    // @ts-expect-error - not a method of this path
    () => api.DELETE("/api/exports/{id}", path),
    // @ts-expect-error - no such parameter
    () => api.GET("/api/exports", { params: { query: { stat: "failed" } } }),
    // @ts-expect-error - no such option
    () => api.GET("/api/exports", { timeout: 5 }),
    // @ts-expect-error - the batch is missing
    () => api.POST("/api/exports/execute", { body: { accountId: "acc_1" } }),
  ];
  assert.equal(calls.length, 6);
});

function gateway(): Script {
  return function gateway(response) {
    response.writeHead(502).end("<html>");
  };
}

async function catchError(call: Promise<unknown>): Promise<unknown> {
  return call.then(
    () => assert.fail("the call succeeded"),
    (error: unknown) => error,
  );
}
