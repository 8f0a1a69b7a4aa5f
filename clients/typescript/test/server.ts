/** A server with scripted answers, which records the requests. */

import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";

import { Exports, type ExportsOptions } from "exports-client";

export interface Received {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** Answers one request. */
export type Script = (response: ServerResponse, request: Received) => void;

/** Gives one answer after another, and repeats the last one. */
export class ScriptedServer {
  readonly requests: Received[] = [];
  url = "";
  readonly #server: Server;

  private constructor(scripts: readonly Script[]) {
    this.#server = createServer((request, response) => {
      let body = "";
      request.setEncoding("utf-8").on("data", (part: string) => (body += part));
      request.on("end", () => {
        const received = { method: request.method ?? "", path: request.url ?? "", headers: request.headers, body };
        const script = scripts[Math.min(this.requests.length, scripts.length - 1)];
        this.requests.push(received);
        script?.(response, received);
      });
    });
  }

  static async start(context: TestContext, ...scripts: Script[]): Promise<ScriptedServer> {
    const made = new ScriptedServer(scripts);
    await new Promise<void>((resolve) => made.#server.listen(0, "127.0.0.1", resolve));
    made.url = `http://127.0.0.1:${(made.#server.address() as AddressInfo).port}`;
    context.after(() => made.stop());
    return made;
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /** Return a client of this server, with very short pauses. */
  client(options: Partial<ExportsOptions> = {}): Exports {
    return new Exports({ url: this.url, key: "exp_test_1", retries: { firstPauseMs: 1, maxPauseMs: 2 }, ...options });
  }
}

export function json(value: unknown, status = 200, headers: Record<string, string> = {}): Script {
  return (response) => response.writeHead(status, { "Content-Type": "application/json", ...headers }).end(JSON.stringify(value));
}

export function problem(status: number, errorCode: string, members: object = {}, headers: Record<string, string> = {}): Script {
  const facts = { type: `/docs/problems#${errorCode}`, title: errorCode, status, detail: errorCode };
  const body = { ...facts, errorCode, message: errorCode, requestId: "req_1", ...members };
  return json(body, status, { "Content-Type": "application/problem+json", ...headers });
}

/** Ends the connection without an answer. */
export const cut: Script = (response) => response.destroy();

/** Sends text of a stream of events, and ends it, or breaks it, or leaves it open. */
export function stream(text: string, end: "end" | "break" | "open" = "end"): Script {
  return (response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
    response.write(text, () => {
      if (end === "end") response.end();
      if (end === "break") response.destroy();
    });
  };
}

export const noContent: Script = (response) => response.writeHead(204).end();

export function event(seq: number, type = "STEP_RETRIED"): string {
  return `id: ${seq}\ndata: ${JSON.stringify({ id: `exp_1.${seq}`, seq, type, at: "", actor: "", data: {} })}\n\n`;
}
