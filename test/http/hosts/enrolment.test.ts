// Goal: where nobody can enrol that is said, and nobody keeps others from enrolling. Method: the app. What comes as a proof
// is in test/fuzz/enrolment.ts.
import { readFileSync } from 'node:fs';
import { newKeyPair } from '../../../src/agent/credential.ts';
import { createEnrolmentApp } from '../../../src/http/hosts/enrolment.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import { makeCertificates } from '../../kit/servers/certificates.ts';
import { trustWith } from '../../kit/trust.ts';
import { assert, suite } from '../../kit/uvu.ts';

const enrolment = suite('what comes as an enrolment');

async function open({ enrols = true, serverCertificate = 'none' } = {}) {
  const store = createMemoryStore();
  const roles = [{ account: '123456789012', role: 'host', profile: 'host' }];
  const trust = trustWith(store, enrols ? { roles, passphrase: 'a passphrase for tests' } : {});
  await trust.open();
  let now = 0;
  const lines: string[] = [];
  const log = (_level: string, message: string) => void lines.push(message);
  const app = createEnrolmentApp(trust, log, {
    serverCertificate: () => serverCertificate,
    clock: () => now,
  });
  return {
    lines,
    later: () => {
      now += 60_000;
    },
    async ask(path: string, body: string, encrypted = true, remoteAddress = '10.0.1.10') {
      const socket = { remoteAddress, ...(encrypted ? { encrypted } : {}) };
      const request = new Request(`https://x${path}`, { method: 'POST', body });
      const answer = await app.fetch(request, { incoming: { socket } } as never);
      return { status: answer.status, text: await answer.text() };
    },
  };
}

enrolment('over plain http: is refused', async () => {
  const { ask } = await open();
  assert.equal(await ask('/enroll', '{}', false), {
    status: 403,
    text: '{"Error":"hosts enrol over https only; name an https listener"}',
  });
});

enrolment('at a server without roles: is refused', async () => {
  const { ask } = await open({ enrols: false });
  const { status, text } = await ask('/enroll/nonce', '{}');
  assert.is(status, 403);
  assert.match(text, 'hosts cannot enrol at this server; start it with --enroll-role');
});

enrolment('a proof for what is no name: is refused like one for another server', async () => {
  const certificates = makeCertificates();
  const serverCertificate = readFileSync(certificates.server.cert, 'utf8');
  certificates.remove();
  const { ask } = await open({ serverCertificate });
  const publicKey = newKeyPair().publicKey.toString('base64');
  const proof = { nonce: 'A', publicKey, date: '', securityToken: '', authorization: '' };
  for (const server of ['', '\0', 'localhost\0.example.com', '\ud800', '[::1]', '*', 'localhost.'])
    assert.match(
      (await ask('/enroll', JSON.stringify({ ...proof, server }))).text,
      /^\{"Error":"not enrolled: the proof is for the server .*; use a name of this server's certificate"\}$/,
      JSON.stringify(server),
    );
});

enrolment('addresses that ask without end: are refused, and keep no other host from enrolling', async () => {
  const { ask, lines, later } = await open();
  const askFrom = async (address: string) => (await ask('/enroll/nonce', '{}', true, address)).status;
  const crowd = Array.from({ length: 25 }, (_, n) => `10.0.2.${n}`);
  const answers: number[] = [];
  for (let i = 0; i < 70; i++) for (const address of crowd) answers.push(await askFrom(address));
  const given = answers.filter(status => status === 200).length;
  assert.ok(given <= 1_200 + 25 * 10, `${given}`);
  const refused = await ask('/enroll/nonce', '{}', true, '10.0.2.1');
  assert.is(refused.status, 503);
  assert.match(refused.text, '"too many enrolments; try again in a minute"');
  assert.ok(lines.length < 50, `${lines.length} lines, at most one a second`);
  for (let i = 0; i < 10; i++) assert.is(await askFrom('10.0.1.10'), 200);
  later();
  assert.is(await askFrom('10.0.2.1'), 200);
});
enrolment.run();
