/** Enrolment at a server: whoever does not prove which instance it is gets no certificate. */
import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { newKeyPair } from '../../src/agent/credential.ts';
import { signStatement, stsEndpoint } from '../../src/cloud/caller-identity.ts';
import { createMemoryClient } from '../../src/cloud/memory.ts';
import { identityIn } from '../../src/domain/certificate.ts';
import { createEnrolmentApp } from '../../src/http/hosts/enrolment.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import { makeCertificates } from '../kit/servers/certificates.ts';
import { INSTANCE, serve, simulated } from '../kit/simulated.ts';
import { trustWith } from '../kit/trust.ts';
import type { Hostile } from './hostile.ts';
import { checkedAnswer, logInto, type Part, type Scene, type Target } from './part.ts';

const REGION = 'eu-central-1';
const ADDRESS = '10.0.1.10';
const ROLE = { account: '123456789012', role: 'simulated-role', profile: 'simulated-role' };
/** Of the inputs so many begin with a proof that is good. STS is asked for these. */
const GOOD = 0.01;
const MINUTE_MS = 60_000;
/** Below the requests that the server takes from one address in a minute. */
const PER_MINUTE = 50;
const decoder = new TextDecoder();

async function open({ note, wrong }: Scene): Promise<Target> {
  const vpc = simulated();
  const served = await serve(createSimulator(vpc, { instance: INSTANCE }));
  const endpoint = stsEndpoint(REGION, served.url);
  const store = createMemoryStore();
  const ec2 = createMemoryClient(vpc, { wait: async () => {}, deadlineClock: () => 0 });
  const trust = trustWith(store, {
    roles: [ROLE],
    passphrase: 'hunter2-hunter2',
    describe: id => ec2.instance(id),
    stsOverride: served.url,
  });
  await trust.open();
  const certificates = makeCertificates();
  const certificate = readFileSync(certificates.server.cert, 'utf8');
  certificates.remove();
  let [now, inputs] = [0, 0];
  const app = createEnrolmentApp(trust, logInto(wrong), {
    serverCertificate: () => certificate,
    clock: () => now,
  });
  const { accessKeyId, secretAccessKey, token } = vpc.sessions.assume(ROLE.role, INSTANCE);
  const credentials = { accessKeyId, secretAccessKey, sessionToken: token };
  const keys = Array.from({ length: 20 }, () => newKeyPair().publicKey);

  async function proofOf(hostile: Hostile) {
    const { nonce } = await trust.challenge();
    const key = hostile.oneOf(keys);
    const keyHash = createHash('sha256').update(key).digest('hex');
    const statement = { server: 'localhost', nonce, keyHash };
    const signed = await signStatement(statement, credentials, { region: REGION, endpoint, now: Date.now() });
    return { server: 'localhost', nonce, publicKey: key.toString('base64'), ...signed };
  }
  let proof = await proofOf({ oneOf: ([key]: readonly unknown[]) => key } as Hostile);

  return {
    async input(hostile) {
      if (++inputs % PER_MINUTE === 0) now += MINUTE_MS;
      const isNew = hostile.chance(GOOD);
      if (isNew) proof = await proofOf(hostile);
      const used = proof;
      const body = hostile.body(
        isNew ? used : { ...used, nonce: hostile.oneOf([used.nonce, 'A'.repeat(56)]) },
      );
      const path = hostile.chance(0.97) ? '/enroll' : hostile.oneOf(['/enroll/nonce', '/enroll/', '/x']);
      const remoteAddress = hostile.oneOf([ADDRESS, ADDRESS, ADDRESS, '::ffff:10.0.1.10', '10.0.1.99', '']);
      const request = new Request(`https://localhost${path}`, {
        method: 'POST',
        body: body as Uint8Array<ArrayBuffer>,
        headers: hostile.chance(0.7) ? { 'content-length': `${body.length}` } : {},
      });
      const bindings = { incoming: { socket: { encrypted: true, remoteAddress } } };
      const answer = await app.fetch(request, bindings as never);
      const text = await answer.text();
      note(`${answer.status}`);
      if (path === '/enroll' && answer.status === 200) return checkCertificate(text, used, remoteAddress);
      if (path === '/enroll/nonce' && answer.status === 200) return;
      if (answer.status === 404) return;
      const { Error: line } = checkedAnswer(text);
      if (![400, 403, 503].includes(answer.status) || typeof line !== 'string')
        throw new Error(`status ${answer.status} ${text} for ${decoder.decode(body)}`);
    },
    async end() {
      served.close();
      const { rows } = await store.hosts();
      if (rows.some(({ instance }) => instance !== INSTANCE))
        throw new Error('another instance has enrolled');
    },
  };
}

/** A certificate is for the key and the instance that signed, whatever else was changed. */
function checkCertificate(
  text: string,
  { publicKey }: { readonly publicKey: string },
  address: string,
): void {
  const shown = new X509Certificate(JSON.parse(text).certificate);
  const key = shown.publicKey.export({ format: 'der', type: 'spki' }).toString('base64');
  const { instance } = identityIn(shown.raw);
  if (instance !== INSTANCE || key !== publicKey || !address.endsWith(ADDRESS))
    throw new Error(`a certificate for ${instance} at ${address}`);
}

export const ENROLMENT: Part = { name: 'enrolment', share: 150, lanes: 8, open };
