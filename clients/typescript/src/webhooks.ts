/** Webhooks of the service, for their receivers: checks the signature and returns the message. */

import { Webhook, WebhookVerificationError } from "standardwebhooks";

import { InvalidArgument, InvalidWebhook } from "./errors.js";
import type { webhooks } from "./schema.js";

/** The types of messages that this version knows; ignore others. */
export type MessageType = keyof webhooks;

type Messages = {
  [Type in MessageType]: webhooks[Type]["post"]["requestBody"]["content"]["application/cloudevents+json"];
};

/** A CloudEvent of the service: `type` says what `data` has. Keep it once by its `id`, the same on every attempt and channel. */
export type Message<Type extends MessageType = MessageType> = Messages[Type];

/** The headers of a request, of fetch's `Request` or of Node.js. */
export type WebhookHeaders = Headers | Readonly<Record<string, string | readonly string[] | undefined>>;

const SIGNATURE_HEADERS = ["webhook-id", "webhook-timestamp", "webhook-signature"] as const;

/**
 * Return the message of a webhook that one of the partner's secrets signed, at most five minutes ago.
 *
 * `body` must be the exact bytes as received, before parsing. While a secret is being replaced, give both, the newer first.
 * Throws InvalidWebhook, with the `status` to answer, and InvalidArgument if a secret is not valid.
 */
export function verifyWebhook(
  body: string | Uint8Array,
  headers: WebhookHeaders,
  secrets: string | readonly string[],
): Message {
  const keys = (typeof secrets === "string" ? [secrets] : secrets).map(parseSecret);
  if (keys.length === 0) throw new InvalidArgument("secrets", "must not be empty; give the partner's signing secret");
  const signed = readHeaders(headers);
  const missing = SIGNATURE_HEADERS.filter((name) => !signed[name]);
  if (missing.length > 0) throw new InvalidWebhook(`the request is not signed: ${missing.join(", ")} is missing`, 401);
  const text = decode(body);
  const reasons = keys.map((key) => findRejection(key, text, signed));
  const [first] = reasons;
  if (first !== undefined && !reasons.includes(undefined)) throw new InvalidWebhook(first, 401);
  return readMessage(text);
}

/** Return the message in `body`, from a webhook or a queue; this does not check the sender. */
export function readMessage(body: string | Uint8Array): Message {
  let message: unknown;
  try {
    message = JSON.parse(decode(body));
  } catch {
    throw new InvalidWebhook("the body is not a message of the service: it is not JSON", 400);
  }
  const members: Record<string, unknown> = { ...(typeof message === "object" ? message : null) };
  const wrong = ["id", "type", "source", "subject", "time"].find((name) => typeof members[name] !== "string");
  if (wrong !== undefined || typeof members["data"] !== "object" || members["data"] === null) {
    throw new InvalidWebhook(`the body is not a message of the service: ${wrong ?? "data"} is missing`, 400);
  }
  return message as Message;
}

function decode(body: string | Uint8Array): string {
  if (typeof body === "string") return body;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    throw new InvalidWebhook("the body is not a message of the service: it is not UTF-8", 400);
  }
}

function parseSecret(secret: string): Webhook {
  try {
    return new Webhook(secret);
  } catch {
    throw new InvalidArgument("secrets", "must be whsec_ and base64; give the partner's signing secret");
  }
}

function readHeaders(headers: WebhookHeaders): Record<string, string> {
  const entries = headers instanceof Headers ? headers.entries() : Object.entries(headers);
  return Object.fromEntries(Array.from(entries, ([name, value]) => [name.toLowerCase(), String(value ?? "")]));
}

function findRejection(key: Webhook, body: string, headers: Record<string, string>): string | undefined {
  try {
    key.verify(body, headers, { jsonParse: false });
    return undefined;
  } catch (error) {
    const text = error instanceof WebhookVerificationError ? error.message : "";
    if (text.includes("timestamp")) {
      return "the webhook was signed more than five minutes ago or ahead; check your clock";
    }
    if (text.includes("No matching")) {
      return "the webhook's signature does not fit its body; verify the exact bytes with the partner's newest secret";
    }
    return "the webhook's signature cannot be read";
  }
}
