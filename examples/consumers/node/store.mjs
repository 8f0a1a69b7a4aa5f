// A partner's store of messages in a file of lines: each message counts once, and is on disk before it is acknowledged.
// For one process; with several, use the database of the work, and write the message's id in the same transaction.

import { closeSync, existsSync, fsyncSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs';

export class Store {
  #file;
  #seen = new Set();
  #handoffs = new Map(); // handoffs without an answer, by the id of their message

  constructor(path) {
    if (existsSync(path)) {
      const bytes = readFileSync(path);
      const whole = bytes.lastIndexOf(0x0a) + 1;
      truncateSync(path, whole); // an incomplete last line, as after a power failure, was never acknowledged
      for (const line of bytes.subarray(0, whole).toString('utf8').split('\n')) if (line) this.#remember(JSON.parse(line));
    }
    this.#file = openSync(path, 'a');
  }

  // Does the message's work; returns a line about it, or null if that was done before or there is nothing to do.
  // Throws, and stores nothing, if it is not a message of the service.
  keep(event) {
    if (typeof event.id !== 'string' || typeof event.data !== 'object') throw new TypeError('not a CloudEvent');
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

// What to do about a handoff: filed entries may go on, or need a correction.
function task(data) {
  if (data.corrects?.length) return 'to correct';
  return data.units?.length && data.units.every((unit) => unit.kept) ? 'nothing new to file' : 'to file';
}

function work(type, data) {
  const about = (...words) => [data.exportId, ...words].join(' ');
  switch (type) {
    case 'exports.package.recorded.v1':
      return { line: about(data.unitRef, data.packageRef, data.sscc ?? data.lpn, data.shipTo.name) };
    case 'exports.package.withdrawn.v1':
    case 'exports.package.superseded.v1':
      return { line: about(data.unitRef, data.packageRef, 'superseded') };
    case 'exports.handoff.ready.v1':
      return { line: about(data.submissionId, task(data)), submissionId: data.submissionId, answerTo: data.acknowledgementUrl };
    case 'exports.handoff.withdrawn.v1':
    case 'exports.handoff.superseded.v1':
      return { line: about(data.submissionId, 'superseded') };
    case 'exports.handoff.replied.v1':
      return { line: about(data.submissionId, `message ${data.messageId}: ${data.text}`) };
    default:
      return {}; // connection tests, and messages of later versions of the service
  }
}
