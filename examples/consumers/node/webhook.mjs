// A customs broker's webhook receiver: rejects unsigned requests, stores a handoff once, and answers that it was received.
// Needs only Node.js.
//
//   EXPORTS_WEBHOOK_SECRETS='whsec_new whsec_old' node webhook.mjs --port 8080

import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { Store } from './store.mjs';

const MAX_BYTES = 40_000_000;
const TOLERANCE_SECONDS = 300;

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '8080' }, // on loopback: put a web server with TLS in front of it
    store: { type: 'string', default: 'broker.jsonl' },
    'retry-seconds': { type: 'string', default: '30' }, // seconds until a failed answer is sent again
  },
});
// The newest secret first, then the previous one until it ends.
const secrets = (process.env.EXPORTS_WEBHOOK_SECRETS ?? '').split(/\s+/).filter(Boolean);
if (secrets.length === 0) {
  console.error('set EXPORTS_WEBHOOK_SECRETS to the secret that registration of the partner showed');
  process.exit(1);
}
const store = new Store(values.store);

function signature(secret, id, timestamp, body) {
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  return createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest();
}

// Returns whether one of the secrets signed exactly these bytes, at most five minutes ago. Compares in constant time.
function isSigned(body, headers) {
  const id = headers['webhook-id'];
  const timestamp = headers['webhook-timestamp'];
  if (!id || !/^\d{1,15}$/.test(timestamp ?? '')) return false;
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE_SECONDS) return false;
  const given = (headers['webhook-signature'] ?? '')
    .split(' ')
    .filter((each) => each.startsWith('v1,'))
    .map((each) => Buffer.from(each.slice(3), 'base64'));
  return secrets.some((secret) => {
    const expected = signature(secret, id, timestamp, body);
    return given.some((each) => each.length === expected.length && timingSafeEqual(each, expected));
  });
}

async function read(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > MAX_BYTES) return null;
    parts.push(part);
  }
  return Buffer.concat(parts); // the exact bytes as received: a body that was parsed and written again does not fit its signature
}

async function take(request) {
  if (request.method !== 'POST') return 405;
  if (Number(request.headers['content-length'] ?? 0) > MAX_BYTES) return 413;
  const body = await read(request);
  if (body === null) return 413;
  if (!isSigned(body, request.headers)) return 401;
  let line;
  try {
    line = store.keep(JSON.parse(body.toString('utf8')));
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) return 400;
    throw error;
  }
  if (line) {
    console.log(line);
    setImmediate(answerAll);
  }
  return 204;
}

// Answers every handoff that has no answer. A failed answer is sent again later, and after the next start.
async function answerAll() {
  for (const { id, submissionId, answerTo } of store.unanswered()) {
    if (!(await answer(answerTo, `${id}:received`)) || !store.unanswered().some((each) => each.id === id)) continue;
    store.answered(id);
    console.log(`${submissionId} answered`);
  }
}

// Answers that the handoff was received; a person decides whether to accept it. The same id counts once.
async function answer(url, id) {
  const body = JSON.stringify({ id, status: 'received' });
  const timestamp = Math.floor(Date.now() / 1000);
  const headers = {
    'content-type': 'application/json',
    'webhook-id': id,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': `v1,${signature(secrets[0], id, timestamp, body).toString('base64')}`,
  };
  try {
    const answered = await fetch(url, { method: 'POST', body, headers, redirect: 'error', signal: AbortSignal.timeout(20_000) });
    if (answered.ok) return true;
    console.error(`the answer ${id} was not accepted: ${answered.status} ${(await answered.text()).slice(0, 300)}`);
  } catch (error) {
    console.error(`the answer ${id} was not accepted: ${error.message}`);
  }
  return false;
}

const server = createServer((request, response) => {
  take(request)
    .catch((error) => {
      console.error(error); // such as a full disk: the service sends the message again
      return 500;
    })
    .then((status) => response.writeHead(status, status === 413 ? { connection: 'close' } : {}).end());
});
server.listen(Number(values.port), '127.0.0.1', () => console.log('ready'));
answerAll();
setInterval(answerAll, Number(values['retry-seconds']) * 1000);
process.on('SIGTERM', () => process.exit(0));
