// A real OpenID provider on loopback, for the test of the console's sign-in. It reads one JSON object a line: first its
// client and whether its ID tokens hold all claims, then changes, each answered by a line.

import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

import { exportJWK, generateKeyPair } from 'jose';
import { Provider } from 'oidc-provider';

// The provider's notices must not stand between the answers.
console.info = console.error;

const server = createServer();
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const issuer = `http://127.0.0.1:${server.address().port}`;

let people = {};
let serve = (request, response) => response.writeHead(503).end();
server.on('request', (request, response) => serve(request, response));

async function start({ client, allClaims }) {
  const { privateKey } = await generateKeyPair('RS256', { extractable: true });
  const provider = new Provider(issuer, {
    clients: [{ ...client, grant_types: ['authorization_code'], response_types: ['code'] }],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'], groups: ['groups'] },
    conformIdTokenClaims: !allClaims,
    findAccount: (context, id) => people[id] && { accountId: id, claims: () => ({ sub: id, ...people[id] }) },
    pkce: { required: () => true },
    cookies: { keys: ['a-key-of-the-test'] },
    jwks: { keys: [{ ...(await exportJWK(privateKey)), use: 'sig' }] },
  });
  serve = provider.callback();
}

let begun;
for await (const line of createInterface({ input: process.stdin })) {
  const given = JSON.parse(line);
  people = given.people ?? people;
  if (given.client) begun = given;
  // A new start has new keys, as a provider that rotates them.
  if (given.client || given.rotate) await start(begun);
  console.log(JSON.stringify({ issuer }));
}
process.exit(0);
