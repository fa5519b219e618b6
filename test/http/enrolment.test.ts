// Goal: whatever comes as an enrolment is refused in one line, without a crash, a certificate or growth. Method: the app
// with proofs that are odd, and with random changes of one, from a seed.
import { createEnrolmentApp } from '../../src/http/enrolment.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import { byLength } from '../kit/length.ts';
import { Random } from '../kit/random.ts';
import { trustWith } from '../kit/trust.ts';
import { assert, suite } from '../kit/uvu.ts';

const SEED = 12;
const INPUTS = byLength({ full: 100_000, short: 1_000, leftOut: 'most of the odd proofs' });

const enrolment = suite('what comes as an enrolment');

async function open({ enrols = true } = {}) {
  const store = createMemoryStore();
  const roles = [{ account: '123456789012', role: 'host', profile: 'host' }];
  const trust = trustWith(store, enrols ? { roles, passphrase: 'a passphrase for tests' } : {});
  await trust.open();
  let now = 0;
  const lines: string[] = [];
  const log = (_level: string, message: string) => void lines.push(message);
  const app = createEnrolmentApp(trust, log, { serverCertificate: () => 'none', clock: () => now });
  return {
    store,
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

const GOOD = {
  server: 'localhost',
  nonce: 'A'.repeat(56),
  publicKey: Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex').toString('base64'),
  date: '20261126T010000Z',
  securityToken: 'x'.repeat(400),
  authorization: `AWS4-HMAC-SHA256 Credential=ASIAAAAAAAAAAAAAAAAA/20261126/eu-central-1/sts/aws4_request, SignedHeaders=host, Signature=${'0'.repeat(64)}`,
};

enrolment('odd proofs: are refused, and leave nothing', async () => {
  const { ask, store, lines, later } = await open();
  const random = new Random(SEED);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random.next() * list.length)] as T;
  const odd = [null, 0, '', [], {}, 'é\\u0000', '\\r\\nx: y', '__proto__', '9'.repeat(9000), '{"', -1, true];
  for (let i = 0; i < INPUTS; i++) {
    if (i % 50 === 0) later();
    const proof: Record<string, unknown> = { ...GOOD };
    for (let n = 0; n < 2; n++) proof[pick(Object.keys(GOOD))] = pick(odd);
    const whole = JSON.stringify(proof);
    const cut = random.next() < 0.2 ? whole.slice(0, Math.floor(random.next() * whole.length)) : whole;
    const { status, text } = await ask('/enroll', cut);
    assert.ok(status === 400 || status === 403, `seed ${SEED}, input ${i}: ${status} ${text} for ${cut}`);
    assert.match(text, /^\{"Error":"[^\n]{1,500}"\}$/);
  }
  assert.equal((await store.hosts()).rows, []);
  assert.not.ok(lines.includes('internal error'));
});

enrolment('addresses that ask without end: are refused, and keep no other host from enrolling', async () => {
  const { ask, lines, later } = await open();
  const askFrom = async (address: string) => (await ask('/enroll/nonce', '{}', true, address)).status;
  const crowd = Array.from({ length: 25 }, (_, n) => `10.0.2.${n}`);
  const answers: number[] = [];
  for (let i = 0; i < 70; i++) for (const address of crowd) answers.push(await askFrom(address));
  const given = answers.filter(status => status === 200).length;
  assert.ok(given <= 1_200 + 25 * 10, `${given}`);
  assert.is(await askFrom('10.0.2.1'), 503);
  assert.ok(lines.length < 50, `${lines.length} lines, at most one a second`);
  for (let i = 0; i < 10; i++) assert.is(await askFrom('10.0.1.10'), 200);
  later();
  assert.is(await askFrom('10.0.2.1'), 200);
});
enrolment.run();
