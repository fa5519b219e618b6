// Goal: a call of Docker reaches a server while one of them answers, under one id, and ends in its bound; what may be
// held for nobody is given back. Method: servers that are functions, on a clock that moves only while all wait.
import type { Agent } from 'node:https';
import { createForwarding, type Forwarding } from '../../src/agent/forward.ts';
import { type Answer, type Call, NotSentError, type ServerUrl } from '../../src/agent/server-client.ts';
import { IpamError } from '../../src/domain/error.ts';
import { Clock } from '../kit/clock.ts';
import { failureOf } from '../kit/failures.ts';
import { assert, suite } from '../kit/uvu.ts';

const A = { host: 'a.example.com', port: 443 };
const B = { host: 'b.example.com', port: 443 };
const BOUND_MS = 120_000;
const HOUR_MS = 3_600_000;
const START = 1000;
const CREDENTIAL = { agent: {} as Agent } as never;
const LOOK = '/Plugin.Activate';
const REQUEST = '/IpamDriver.RequestAddress';
const RELEASE = '/IpamDriver.ReleaseAddress';
const ASKED = JSON.stringify({ PoolID: 'eni-0a' });
const RELEASED = JSON.stringify({ PoolID: 'eni-0a', Address: '10.0.1.20' });

type Server = (call: Call, site: Site) => Promise<Answer>;
interface Sent {
  readonly to: string;
  readonly at: number;
  readonly path: string;
  readonly id: string | undefined;
  readonly ageMs: string | undefined;
  readonly givenTo: string | undefined;
  readonly withinMs: number;
  readonly body: string;
}
interface Site extends Omit<Forwarding, 'forward' | 'giveBack'> {
  /** Sends a call under the next id. */
  forward(path: string, body: string): Promise<unknown>;
  giveBack(body: string, answer: unknown): Promise<void>;
  readonly clock: Clock;
  /** By name; absent: away. Tests put others in their places. */
  readonly servers: Record<string, Server>;
  /** Without the looks. */
  readonly sent: Sent[];
  readonly looks: string[];
  readonly refused: unknown[];
  readonly lines: string[];
  /** How much longer the host was suspended than its monotonic clock says. */
  asleepMs: number;
}

function site(servers: Record<string, Server>, names: readonly ServerUrl[] = [A, B]): Site {
  const clock = new Clock({ startAt: START, isFree: true });
  const one = { clock, servers, sent: [], looks: [], refused: [], lines: [], asleepMs: 0 } as unknown as Site;
  let ids = 0;
  const newId = () => `id-${++ids}`;
  const forwarding = createForwarding({
    servers: names,
    serverCa: null,
    identity: { current: async () => CREDENTIAL, refused: credential => void one.refused.push(credential) },
    async send({ host }, call) {
      const {
        'ec2-ipam-request-id': id,
        'ec2-ipam-sent-ms-ago': ageMs,
        'ec2-ipam-given-to': givenTo,
      } = call.headers ?? {};
      const { path, withinMs, body } = call;
      if (path === LOOK) one.looks.push(host);
      else one.sent.push({ to: host, at: clock.now, path, id, ageMs, givenTo, withinMs, body });
      return await (one.servers[host] ?? away)(call, one);
    },
    boundMs: BOUND_MS,
    clock: () => clock.now,
    deadlineClock: () => clock.now + one.asleepMs,
    wait: clock.wait,
    newId,
    log: (level, message, fields) => void one.lines.push(`${level} ${message} ${fields?.path ?? ''}`),
  });
  return Object.assign(one, forwarding, {
    forward: (path: string, body: string) => forwarding.forward(path, body, newId()),
    giveBack: (body: string, answer: unknown) => forwarding.giveBack(body, answer, newId()),
  });
}

const answers =
  (body: unknown, status = 200): Server =>
  async () => ({ status, text: JSON.stringify(body) });
const lost = (why: string) => new IpamError('unavailable', `no answer: ${why}`);
const away: Server = async () => {
  throw new NotSentError('unavailable', 'no answer: ECONNREFUSED');
};
/** As a process that was stopped: its kernel accepts all, and nothing is answered. */
const frozen: Server = async ({ withinMs, signal }, { clock }) => {
  await clock.wait(withinMs, signal);
  throw lost('not in time');
};
/** Alive, and answers the call after so long. */
const slow =
  (afterMs: number, body: unknown): Server =>
  async ({ path, withinMs, signal }, { clock }) => {
    if (path === LOOK) return { status: 200, text: '{}' };
    await clock.wait(Math.min(afterMs, withinMs), signal);
    if (withinMs < afterMs || signal?.aborted) throw lost('not in time');
    return { status: 200, text: JSON.stringify(body) };
  };
const GIVEN = { Address: '10.0.1.20/24', Data: {} };

const forwarding = suite('calls that an agent sends on');

forwarding('a server that answers: is asked once, and again for the next call', async () => {
  const one = site({ [A.host]: answers(GIVEN), [B.host]: away });
  assert.equal(await one.forward('/x', 'body'), GIVEN);
  await one.forward('/x', 'body');
  assert.equal(
    one.sent.map(({ to, id, ageMs, body }) => [to, id, ageMs, body]),
    [
      [A.host, 'id-1', '0', 'body'],
      [A.host, 'id-2', '0', 'body'],
    ],
  );
});

forwarding(
  'a release: names the request that was given the address last, in each repetition, once',
  async () => {
    const one = site({ [A.host]: answers(GIVEN), [B.host]: away });
    await one.forward(REQUEST, ASKED);
    await one.forward(REQUEST, ASKED);
    one.servers[A.host] = async call => (one.sent.length < 6 ? away(call, one) : answers({})(call, one));
    await one.forward(RELEASE, RELEASED);
    await one.forward(RELEASE, RELEASED);
    const releases = one.sent.filter(({ path }) => path === RELEASE);
    assert.ok(releases.length > 3);
    for (const { id, givenTo } of releases) assert.is(givenTo, id === 'id-3' ? 'id-2' : undefined);
  },
);

forwarding('an error of the server: is an answer', async () => {
  const one = site({ [A.host]: answers({ Error: 'the subnet is full' }) });
  assert.equal(await one.forward(REQUEST, ASKED), { Error: 'the subnet is full' });
  assert.is(one.sent.length, 1);
});

for (const [what, server] of [
  ['is away', away],
  ['answers with a status of failure', answers({ Error: 'x' }, 503)],
  ['answers with what is no JSON', async () => ({ status: 200, text: '<html>' })],
  ['answers with a number', answers(7)],
  ['answers with a list', answers([{}])],
  ['answers with an address that is no text', answers({ Address: 7 })],
  ['answers with control characters', answers({ Address: '10.0.1.20\u001b[2J' })],
  ['answers with an overlong text', answers({ PoolID: 'x'.repeat(5000) })],
] as [string, Server][])
  forwarding(`a server that ${what}: the other gets the same call under the same id`, async () => {
    const one = site({ [A.host]: server, [B.host]: answers({}) });
    await one.forward('/x', 'body');
    await one.forward('/x', 'body');
    assert.equal(
      one.sent.map(({ to, id }) => [to, id]),
      [
        [A.host, 'id-1'],
        [B.host, 'id-1'],
        [B.host, 'id-2'],
      ],
    );
  });

forwarding('an answer: is what Docker reads of it, and its error is clean', async () => {
  const deep = '['.repeat(100_000) + ']'.repeat(100_000);
  const one = site({
    [A.host]: async () => ({
      status: 200,
      text: `{"Error":"no\\u001b[2J \\u202e${'x'.repeat(9000)}","more":${deep}}`,
    }),
  });
  const { Error: error, ...more } = (await one.forward('/x', '')) as { Error: string };
  assert.match(error, /^no \[2J {2}x{3000}/);
  assert.is(error.length, 4000);
  assert.equal(more, {});
});

forwarding(
  'all servers away: are asked again with growing pauses, within the bound, and the age is said',
  async () => {
    const one = site({});
    assert.match(await failureOf(one.forward(REQUEST, ASKED), 'unavailable'), /ECONNREFUSED/);
    assert.is(new Set(one.sent.map(({ id }) => id)).size, 1);
    for (const { at, ageMs } of one.sent) assert.is(ageMs, String(at - START));
    const tookMs = one.clock.now - START;
    assert.ok(tookMs <= BOUND_MS && tookMs > BOUND_MS / 2, `${tookMs}`);
    assert.ok(one.sent.length > 50 && one.sent.length < 200, `${one.sent.length} calls`);
    assert.equal(one.unanswered(), [], 'no server can have made the request');
  },
);

forwarding('a host that was suspended meanwhile: says the real age', async () => {
  const one = site({ [A.host]: frozen, [B.host]: answers({}) });
  one.servers[B.host] = async () => {
    assert.is(one.sent.at(-1)?.ageMs, String(one.clock.now - START + HOUR_MS));
    return { status: 200, text: '{}' };
  };
  one.servers[A.host] = async () => {
    one.asleepMs = HOUR_MS;
    throw lost('ECONNRESET');
  };
  await one.forward('/x', 'body');
});

forwarding('a server that waits for EC2: is waited for, and the other is not asked', async () => {
  const one = site({ [A.host]: slow(45_000, GIVEN), [B.host]: answers({}) });
  assert.equal(await one.forward(REQUEST, ASKED), GIVEN);
  assert.equal([one.sent.length, one.clock.now - START], [1, 45_000]);
  assert.ok(one.looks.length > 3);
});

forwarding('a server that is frozen: the other is asked soon', async () => {
  const one = site({ [A.host]: frozen, [B.host]: answers(GIVEN) });
  assert.equal(await one.forward(REQUEST, ASKED), GIVEN);
  assert.equal(
    one.sent.map(({ to, id }) => [to, id]),
    [
      [A.host, 'id-1'],
      [B.host, 'id-1'],
    ],
  );
  assert.ok(one.clock.now - START < 10_000, `${one.clock.now}`);
});

forwarding('many calls at a server that does not answer: look at it together', async () => {
  const one = site({ [A.host]: slow(12_000, {}) });
  await Promise.all(Array.from({ length: 50 }, () => one.forward('/x', '')));
  assert.equal(one.looks, [A.host, A.host]);
});

forwarding(
  'a server that keeps a call for long: takes a part of the bound, and no more than is left',
  async () => {
    const one = site({ [A.host]: slow(HOUR_MS, {}) }, [A]);
    await failureOf(one.forward('/x', ''), 'unavailable');
    for (const { at, withinMs } of one.sent) assert.ok(at + withinMs <= START + BOUND_MS);
    assert.ok(one.sent.length >= 2);
    assert.is(one.clock.now, START + BOUND_MS);
  },
);

forwarding('a refusal: is told also when the other server is away', async () => {
  const one = site({ [A.host]: answers({ Error: 'i-0a is revoked' }, 403) });
  assert.match(await failureOf(one.forward(REQUEST, ASKED), 'denied'), /i-0a is revoked/);
  assert.equal(one.unanswered(), []);
});

forwarding('a certificate that is refused: is given back, and the call repeated', async () => {
  let tries = 0;
  const server: Server = async () => ({ status: tries++ === 0 ? 403 : 200, text: '{"Error":"revoked"}' });
  const one = site({ [A.host]: server, [B.host]: server });
  await one.forward('/x', '');
  assert.equal(one.refused, [CREDENTIAL]);
  assert.equal(
    one.sent.map(({ id }) => id),
    ['id-1', 'id-1'],
  );
});
forwarding.run();

const owing = suite('calls without an answer within the bound');

/** All servers are frozen for longer than Docker waits, and one goes on then. */
async function failed(path: string, body: string): Promise<Site> {
  const one = site({ [A.host]: frozen, [B.host]: frozen });
  await failureOf(one.forward(path, body), 'unavailable');
  return one;
}
/** What a server was sent of one call. */
const sentOf = ({ sent }: Site, id: string) => sent.filter(one => one.id === id);

owing('a request: is repeated under its id, and what it is given goes back', async () => {
  const one = await failed(REQUEST, ASKED);
  assert.equal(one.unanswered(), ['eni-0a']);
  const before = sentOf(one, 'id-1').length;
  one.servers[B.host] = async ({ path }) => ({
    status: 200,
    text: JSON.stringify(path === REQUEST ? GIVEN : {}),
  });
  await one.settle(HOUR_MS);
  assert.ok(sentOf(one, 'id-1').length > before);
  const [release] = sentOf(one, 'id-2');
  assert.equal([release?.path, release?.body, release?.givenTo], [RELEASE, RELEASED, 'id-1']);
  assert.equal(one.unanswered(), []);
});

owing('a request that is refused in the end: leaves nothing to release', async () => {
  const one = await failed(REQUEST, ASKED);
  one.servers[B.host] = answers({ Error: 'the subnet is full' });
  await one.settle(HOUR_MS);
  assert.equal([one.unanswered(), sentOf(one, 'id-2')], [[], []]);
});

owing('a release: is repeated, also when no server was there at all', async () => {
  const one = site({});
  await failureOf(one.forward(RELEASE, RELEASED), 'unavailable');
  assert.equal(one.unanswered(), ['eni-0a']);
  await one.clock.wait(20 * 60_000);
  one.servers[A.host] = answers({});
  await one.settle(HOUR_MS);
  const last = one.sent.at(-1);
  assert.equal([last?.path, last?.body, last?.id], [RELEASE, RELEASED, 'id-1']);
  assert.ok(Number(last?.ageMs) > 20 * 60_000);
  assert.equal(one.unanswered(), []);
});

owing('a call for a network: is not repeated', async () => {
  for (const path of ['/IpamDriver.RequestPool', '/IpamDriver.ReleasePool'])
    assert.equal((await failed(path, ASKED)).unanswered(), []);
});

owing('after an hour: ends, and is logged', async () => {
  const one = site({});
  await failureOf(one.forward(RELEASE, RELEASED), 'unavailable');
  await one.settle(2 * HOUR_MS);
  assert.ok(one.clock.now - START <= HOUR_MS);
  assert.ok(one.lines.includes(`error call given up ${RELEASE}`), one.lines.join('\n'));
  assert.equal(one.unanswered(), []);
});

owing('at the end of the agent: are waited for within a bound, and what is left is logged', async () => {
  const one = site({});
  await failureOf(one.forward(RELEASE, RELEASED), 'unavailable');
  const since = one.clock.now;
  await one.settle(10_000);
  assert.is(one.clock.now - since, 10_000);
  assert.ok(one.lines.includes(`error call given up ${RELEASE}`), one.lines.join('\n'));
});

owing('calls under way: count for their ENI', async () => {
  const one = site({ [A.host]: slow(5_000, {}) });
  const calls = [REQUEST, RELEASE, '/IpamDriver.ReleasePool'].map(path => one.forward(path, RELEASED));
  assert.equal(one.unanswered(), ['eni-0a']);
  await Promise.all(calls);
  assert.equal(one.unanswered(), []);
});

owing(
  'an answer that Docker has not received: its address is released, whatever the servers say',
  async () => {
    const one = site({});
    await one.giveBack(ASKED, GIVEN);
    assert.equal(one.unanswered(), ['eni-0a']);
    one.servers[A.host] = answers({});
    await one.settle(HOUR_MS);
    assert.is(one.sent.at(-1)?.body, RELEASED);
  },
);
owing.run();
