// What a partner keeps of its messages, in a file of lines: each message counts once, and is on the disk before it is acknowledged.
// For one process; with several, use the database in which the work is done, and put the message's id into the same transaction.

import { closeSync, existsSync, fsyncSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs';

export class Store {
  #file;
  #seen = new Set();
  #handoffs = new Map(); // those that are not answered yet, by the id of their message

  constructor(path) {
    if (existsSync(path)) {
      const bytes = readFileSync(path);
      const whole = bytes.lastIndexOf(0x0a) + 1;
      truncateSync(path, whole); // a line that was half written when the power went was never acknowledged
      for (const line of bytes.subarray(0, whole).toString('utf8').split('\n')) if (line) this.#remember(JSON.parse(line));
    }
    this.#file = openSync(path, 'a');
  }

  // Does what the message asks for; returns a line about it, or null where that was done before or there is nothing to do.
  // Throws, and keeps nothing, where the message is none of ours.
  keep(event) {
    if (typeof event.id !== 'string' || typeof event.data !== 'object') throw new TypeError('no CloudEvent');
    if (this.#seen.has(event.id)) return null;
    const entry = { id: event.id, type: event.type, ...work(event.type, event.data) };
    this.#write(entry);
    return entry.line ?? null;
  }

  unanswered() {
    return [...this.#handoffs.values()];
  }

  answered(messageId) {
    this.#write({ id: `${messageId}:answered`, type: 'answered', messageId });
  }

  close() {
    closeSync(this.#file);
  }

  #write(entry) {
    writeSync(this.#file, `${JSON.stringify(entry)}\n`);
    fsyncSync(this.#file);
    this.#remember(entry);
  }

  #remember(entry) {
    this.#seen.add(entry.id);
    if (entry.answerTo) this.#handoffs.set(entry.id, entry);
    if (entry.type === 'answered') this.#handoffs.delete(entry.messageId);
  }
}

function work(type, data) {
  const about = (...words) => [data.exportId, ...words].join(' ');
  switch (type) {
    case 'exports.package.recorded.v1':
      return { line: about(data.unitRef, data.packageRef, data.sscc ?? data.lpn, data.shipTo.name) };
    case 'exports.package.superseded.v1':
      return { line: about(data.unitRef, data.packageRef, 'superseded') };
    case 'exports.handoff.ready.v1':
      return { line: about(data.submissionId, 'to file'), submissionId: data.submissionId, answerTo: data.acknowledgementUrl };
    case 'exports.handoff.superseded.v1':
      return { line: about(data.submissionId, 'superseded') };
    default:
      return {}; // connection tests, and what later versions of the service add
  }
}
