/** Webhooks that the service itself signed, which SIGNED names, and what is wrong with others. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { InvalidArgument, InvalidWebhook, type Message, readMessage, verifyWebhook } from "exports-client";

interface Signed {
  readonly body: string;
  readonly headers: Record<string, string>;
  readonly secret: string;
  readonly older: Record<string, string>;
}

const { body, headers, secret, older } = JSON.parse(readFileSync(process.env["SIGNED"] ?? "", "utf-8")) as Signed;
const bytes = new TextEncoder().encode(body);
const other = "whsec_b2xkZXIgb2YgdGhyZWU=";

/** Return one fact of a message, by its type. */
function describe(message: Message): string {
  switch (message.type) {
    case "exports.package.recorded.v1":
      return message.data.packageRef;
    case "exports.handoff.ready.v1":
      return message.data.submissionId;
    default:
      return message.id;
  }
}

test("a webhook signed by one of the secrets is read, as text or bytes", () => {
  const fromNode = { ...headers, "content-type": ["application/json"], absent: undefined };
  const upper = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toUpperCase(), value]));
  for (const given of [headers, fromNode, upper, new Headers(headers)]) {
    for (const content of [body, bytes, Buffer.from(bytes)]) {
      const message = verifyWebhook(content, given, [other, secret]);
      assert.equal(describe(message), "P1");
      assert.deepEqual(message, readMessage(body));
    }
  }
});

for (const [name, given, content, reason] of [
  ["no signature", {}, body, /webhook-id, webhook-timestamp, webhook-signature is missing/],
  ["another body", headers, `${body} `, /does not fit its body/],
  ["a byte order mark", headers, `\ufeff${body}`, /does not fit its body/],
  ["an old signature", older, body, /more than five minutes/],
  ["a timestamp that is none", { ...headers, "webhook-timestamp": "now" }, body, /cannot be read/],
  ["an unknown version", { ...headers, "webhook-signature": "v2,abc" }, body, /does not fit its body/],
  ["a signature without a version", { ...headers, "webhook-signature": "v1" }, body, /does not fit|cannot be read/],
] as const) {
  test(`a webhook with ${name} is refused with 401`, () => {
    assert.throws(
      () => verifyWebhook(content, given, secret),
      (error) => error instanceof InvalidWebhook && error.status === 401 && reason.test(error.message),
    );
  });
}

test("a webhook signed by another secret is refused, and a secret that is none is named", () => {
  assert.throws(() => verifyWebhook(body, headers, other), InvalidWebhook);
  for (const secrets of [[], "", "whsec_", "whsec_!"]) {
    assert.throws(() => verifyWebhook(body, headers, secrets), InvalidArgument);
  }
});

test("a body that is not a message is refused with 400", () => {
  for (const content of ["", "[", "null", "[]", "{}", '{"id":"1","type":"t","source":"s"}', new Uint8Array([0xff])]) {
    assert.throws(() => readMessage(content), (error) => error instanceof InvalidWebhook && error.status === 400);
  }
});
