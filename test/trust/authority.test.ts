// Goal: all servers of a ledger have one authority, whose key only those read who have the passphrase, and a certificate
// of it names one instance for a day. Method: a memory store, and node's own reader of certificates.
import { createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { identityIn } from '../../src/domain/certificate.ts';
import type { InstanceId } from '../../src/domain/ids.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import { openAuthority } from '../../src/trust/authority.ts';
import { expiryOf, issueTimeOf } from '../../src/trust/client-certificate.ts';
import { checkNonce, makeNonce, NONCE_LIFE_MS } from '../../src/trust/nonce.ts';
import { failureOf } from '../kit/failures.ts';
import { assert, suite } from '../kit/uvu.ts';

const NOW = Date.UTC(2026, 10, 26);
const DAY_MS = 24 * 3_600_000;
const PASSPHRASE = 'correct horse battery staple';
const INSTANCE = 'i-0a1b2c3d4e5f60001' as InstanceId;

const spki = (): Uint8Array =>
  generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'der' },
    privateKeyEncoding: { type: 'pkcs8', format: 'der' },
  }).publicKey;

const authority = suite('authority');

authority('several servers that start at once: have one', async () => {
  const store = createMemoryStore();
  const opened = await Promise.all([1, 2, 3].map(() => openAuthority(store, PASSPHRASE, NOW)));
  const later = await openAuthority(store, PASSPHRASE, NOW + 1);
  assert.is(new Set([...opened, later].map(one => one.certificate)).size, 1);
  assert.is(new Set([...opened, later].map(one => Buffer.from(one.nonceKey).toString('hex'))).size, 1);
});

authority('a certificate: is of this authority, names the instance, and is for clients only', async () => {
  const one = await openAuthority(createMemoryStore(), PASSPHRASE, NOW);
  const key = spki();
  const certificate = new X509Certificate(await one.issue(INSTANCE, key, NOW, NOW + DAY_MS));
  const ca = new X509Certificate(one.certificate);
  assert.ok(ca.ca);
  assert.not(certificate.ca);
  assert.ok(certificate.checkIssued(ca));
  assert.ok(certificate.verify(ca.publicKey));
  assert.is(identityIn(certificate.raw).instance, INSTANCE);
  assert.is(expiryOf(certificate), NOW + DAY_MS);
  assert.is(issueTimeOf(certificate), NOW);
  const theirs = createPublicKey({ key: Buffer.from(key), format: 'der', type: 'spki' });
  assert.is(
    certificate.publicKey.export({ format: 'pem', type: 'spki' }),
    theirs.export({ format: 'pem', type: 'spki' }),
  );
});

authority('a key that is no point of the curve: gets no certificate', async () => {
  const one = await openAuthority(createMemoryStore(), PASSPHRASE, NOW);
  const key = Uint8Array.from(spki());
  key.fill(0x55, -32);
  let made = '';
  try {
    made = await one.issue(INSTANCE, key, NOW, NOW + DAY_MS);
  } catch {}
  assert.is(made, '');
});

authority('another passphrase: is refused, in one line that says what to set', async () => {
  const store = createMemoryStore();
  await openAuthority(store, PASSPHRASE, NOW);
  const error = await failureOf(openAuthority(store, 'another', NOW), 'conflict');
  assert.match(error, /authority can't be decrypted/);
});

authority('who can only write to the store: cannot put another certificate beside the key', async () => {
  const [store, theirs] = [createMemoryStore(), createMemoryStore()];
  await openAuthority(store, PASSPHRASE, NOW);
  const other = await openAuthority(theirs, 'theirs', NOW);
  const kept = JSON.parse((await store.fact('authority')) ?? '');
  assert.not.match(JSON.stringify(kept), 'MIGHAgEA', 'a private key begins so');
  await store.noteFact('authority', JSON.stringify({ ...kept, certificate: other.certificate }));
  const error = await failureOf(openAuthority(store, PASSPHRASE, NOW), 'conflict');
  assert.match(error, /authority can't be decrypted/);
});

authority('a nonce: is good for a minute, with the key that made it', () => {
  const key = new Uint8Array(32).fill(1);
  const nonce = makeNonce(key, NOW);
  assert.is.not(nonce, makeNonce(key, NOW));
  assert.is(checkNonce(key, nonce, NOW + NONCE_LIFE_MS), 'good');
  assert.is(checkNonce(key, nonce, NOW + NONCE_LIFE_MS + 1), 'expired');
  assert.is(checkNonce(new Uint8Array(32), nonce, NOW), 'unknown');
  for (const text of ['', `${nonce}x`, nonce.slice(1), nonce.replace(/.{5}$/, 'AAAAA'), 'é'.repeat(56)])
    assert.is(checkNonce(key, text, NOW), 'unknown', text);
});
authority.run();
