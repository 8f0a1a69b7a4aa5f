/** The client on the real service, whose address and key the environment names: executes, follows and fetches. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { ApiProblem, Exports, type Plan } from "exports-client";

const { EXPORTS_API_URL: url = "", EXPORTS_API_KEY: key = "", PLAN: file = "" } = process.env;
const plan = JSON.parse(readFileSync(file, "utf-8")) as Plan;
const api = new Exports({ url, key });

test("a plan is executed once, followed to its end, and its documents fetched", async () => {
  const first = await api.execute(plan, { idempotencyKey: "typescript-1" });
  const again = await api.execute(plan, { idempotencyKey: "typescript-1" });
  assert.deepEqual([first.replayed, again.replayed], [false, true]);
  assert.equal(again.export.exportId, first.export.exportId);

  const done = await api.waitForExport(plan.batchId, { timeoutMs: 120_000 });
  assert.equal(done.state, "executed");
  assert.equal(done.exportId, first.export.exportId);

  const artifact = done.artifacts.find(({ filename }) => filename.endsWith(".pdf"));
  assert.ok(artifact);
  const bytes = await api.download(artifact);
  assert.equal(new TextDecoder().decode(bytes.slice(0, 5)), "%PDF-");
  const { data: bundle } = await api.GET("/api/exports/{id}/bundle", {
    params: { path: { id: done.exportId } },
    parseAs: "arrayBuffer",
  });
  assert.equal(new TextDecoder().decode(bundle.slice(0, 2)), "PK");

  const types: string[] = [];
  for await (const event of api.events(done.exportId, { signal: AbortSignal.timeout(60_000) })) {
    types.push(event.type);
    if (event.type === "EXPORT_EXECUTED") break;
  }
  assert.equal(types[0], "EXPORT_ACCEPTED");
  const { data: page } = await api.GET("/api/exports/{id}/events", { params: { path: { id: done.exportId }, query: { limit: 2 } } });
  assert.deepEqual(page.items.map(({ type }) => type), types.slice(0, 2));
  const rest: number[] = [];
  for await (const event of api.events(done.exportId, { after: 2 })) {
    rest.push(event.seq);
    if (rest.length === 2) break;
  }
  assert.deepEqual(rest, [3, 4]);
  const ofAccount: string[] = [];
  for await (const event of api.accountEvents({ types: ["EXPORT_ACCEPTED"], signal: AbortSignal.timeout(60_000) })) {
    ofAccount.push(event.batchId);
    if (event.exportId === done.exportId) break;
  }
  assert.equal(ofAccount.at(-1), plan.batchId);
});

test("lists, entity tags and refusals are those of the service", async () => {
  const { data: list } = await api.GET("/api/exports", { params: { query: { state: "executed", limit: 10 } } });
  const [summary] = list.items.filter(({ batch_id }) => batch_id === plan.batchId);
  assert.ok(summary);

  const { response } = await api.GET("/api/exports/{id}", { params: { path: { id: summary.exportId } } });
  assert.match(response.headers.get("ETag") ?? "", /^(W\/)?"/);

  const cancelled = await api
    .POST("/api/exports/{id}/cancel", { params: { path: { id: summary.exportId } } })
    .catch((error: unknown) => error);
  assert.ok(cancelled instanceof ApiProblem);
  assert.equal(cancelled.code, "INVALID_STATE");
  assert.ok(cancelled.remedy);
  assert.equal(cancelled.help, `${url}/docs/problems#INVALID_STATE`);

  const invalid = await api.execute({ ...plan, units: [] }).catch((error: unknown) => error);
  assert.ok(invalid instanceof ApiProblem);
  assert.equal(invalid.code, "VALIDATION_ERROR");
  assert.equal(invalid.issues[0]?.pointer, "/plan/units");

  const stranger = new Exports({ url, key: "exp_test_none" });
  await assert.rejects(stranger.GET("/api/exports"), (error) => error instanceof ApiProblem && error.code === "INVALID_API_KEY");
});
