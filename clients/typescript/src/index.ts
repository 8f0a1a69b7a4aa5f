/** The client of the export execution service. */

export { type Answer, type EventType, type Execution, Exports, type Method, type Plan } from "./client.js";
export {
  ApiProblem,
  ApiUnreachable,
  ClientError,
  Corrupted,
  InvalidArgument,
  InvalidWebhook,
  type Issue,
  StillRunning,
} from "./errors.js";
export type { ErrorCode } from "./problems.js";
export { NO_RETRIES, type Retries } from "./retries.js";
export type * from "./schema.js";
export type { CallOptions, ExportsOptions } from "./transport.js";
export { type Message, type MessageType, readMessage, verifyWebhook, type WebhookHeaders } from "./webhooks.js";
