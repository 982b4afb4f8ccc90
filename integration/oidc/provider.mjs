// A real OpenID provider for tests: one client, people without passwords, keys of its own at each start.
// Usage: node provider.mjs SETTINGS.json, with { port, certificate, key, client, people: { name: { email, groups } } }.
// Prints "listening PORT" once it answers.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import Provider from 'oidc-provider';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const scopes = 'openid email groups';

function key(alg, type, options) {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: `${alg}-${randomBytes(4).toString('hex')}` };
}

const server = createServer({ cert: settings.certificate, key: settings.key });
server.listen(settings.port, '127.0.0.1', () => {
  const { port } = server.address();
  const provider = new Provider(`https://127.0.0.1:${port}`, {
    clients: [settings.client],
    jwks: { keys: [key('RS256', 'rsa', { modulusLength: 2048 }), key('ES256', 'ec', { namedCurve: 'P-256' })] },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    claims: { openid: ['sub'], email: ['email'], groups: ['groups'] },
    // Most providers put what a scope stands for into the ID token.
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    async findAccount(_context, id) {
      const person = settings.people[id];
      return person && { accountId: id, claims: async () => ({ sub: id, ...person }) };
    },
    // Nobody is asked for a consent that an administrator has given.
    async loadExistingGrant({ oidc }) {
      const grant = new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
      grant.addOIDCScope(scopes);
      await grant.save();
      return grant;
    },
  });
  server.on('request', provider.callback());
  console.log(`listening ${port}`);
});
