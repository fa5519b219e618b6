// Goal: a call of Docker reaches a server while one of them answers, under one id, and ends in its bound. Method: servers
// that are functions, and a clock that only they and pauses move.
import type { Agent } from 'node:https';
import { createForward } from '../../src/agent/forward.ts';
import type { Answer, Call, ServerUrl } from '../../src/agent/server-client.ts';
import { IpamError } from '../../src/domain/error.ts';
import { failureOf } from '../kit/failures.ts';
import { assert, suite } from '../kit/uvu.ts';

const A = { host: 'a.example.com', port: 443 };
const B = { host: 'b.example.com', port: 443 };
const BOUND_MS = 120_000;
const CREDENTIAL = { agent: {} as Agent } as never;

type Server = (call: Call) => Promise<Answer>;
interface Sent {
  readonly to: string;
  readonly at: number;
  readonly id: string | undefined;
  readonly ageMs: string | undefined;
  readonly withinMs: number;
  readonly body: string;
}
interface Site {
  /** Sends a call under the next id. */
  forward(path: string, body: string): Promise<unknown>;
  readonly sent: readonly Sent[];
  readonly refused: readonly unknown[];
  now: number;
}

function site(servers: Readonly<Record<string, Server>>, names: readonly ServerUrl[] = [A, B]): Site {
  const sent: Sent[] = [];
  const refused: unknown[] = [];
  let ids = 0;
  const one = { sent, refused, now: 1000 };
  const forward = createForward({
    servers: names,
    serverCa: null,
    identity: { current: async () => CREDENTIAL, refused: credential => void refused.push(credential) },
    async send(server, call) {
      const { 'ec2-ipam-request-id': id, 'ec2-ipam-sent-ms-ago': ageMs } = call.headers ?? {};
      sent.push({ to: server.host, at: one.now, id, ageMs, withinMs: call.withinMs, body: call.body });
      return await (servers[server.host] ?? away)(call);
    },
    boundMs: BOUND_MS,
    clock: () => one.now,
    wait: async ms => {
      one.now += ms;
    },
    log: () => {},
  });
  return Object.assign(one, {
    forward: (path: string, body: string) => forward(path, body, `id-${++ids}`),
  });
}

const answers =
  (body: unknown, status = 200): Server =>
  async () => ({ status, text: JSON.stringify(body) });
const away: Server = async () => {
  throw new IpamError('unavailable', 'no answer: ECONNREFUSED');
};

const forwarding = suite('calls that an agent sends on');

forwarding('a server that answers: is asked once, and again for the next call', async () => {
  const one = site({ [A.host]: answers({ Address: '10.0.1.20/24' }), [B.host]: away });
  assert.equal(await one.forward('/x', 'body'), { Address: '10.0.1.20/24' });
  await one.forward('/x', 'body');
  assert.equal(
    one.sent.map(({ to, id, ageMs, body }) => [to, id, ageMs, body]),
    [
      [A.host, 'id-1', '0', 'body'],
      [A.host, 'id-2', '0', 'body'],
    ],
  );
});

forwarding('an error of the server: is an answer', async () => {
  const one = site({ [A.host]: answers({ Error: 'the subnet is full' }) });
  assert.equal(await one.forward('/x', ''), { Error: 'the subnet is full' });
  assert.is(one.sent.length, 1);
});

for (const [what, server] of [
  ['is away', away],
  ['answers with a status of failure', answers({ Error: 'x' }, 503)],
  ['answers with what is no JSON', async () => ({ status: 200, text: '<html>' })],
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

forwarding(
  'all servers away: are asked again with growing pauses, within the bound, and the age is said',
  async () => {
    const one = site({});
    assert.match(await failureOf(one.forward('/x', ''), 'unavailable'), /ECONNREFUSED/);
    assert.is(new Set(one.sent.map(({ id }) => id)).size, 1);
    for (const { at, ageMs } of one.sent) assert.is(ageMs, String(at - 1000));
    assert.ok(one.now - 1000 <= BOUND_MS, `${one.now}`);
    assert.ok(one.now - 1000 > BOUND_MS / 2, `${one.now}`);
    assert.ok(one.sent.length > 50 && one.sent.length < 200, `${one.sent.length} calls`);
  },
);

forwarding('a server that never answers: takes a part of the bound, and no more than is left', async () => {
  const one = site(
    {
      [A.host]: async ({ withinMs }) => {
        one.now += withinMs;
        throw new IpamError('unavailable', 'no answer: not in time');
      },
    },
    [A],
  );
  await failureOf(one.forward('/x', ''), 'unavailable');
  assert.ok(one.sent.length > 5);
  for (const { at, withinMs } of one.sent) assert.ok(at + withinMs <= 1000 + BOUND_MS);
  assert.is(one.now, 1000 + BOUND_MS);
});

forwarding('a refusal: is told also when the other server is away', async () => {
  const one = site({ [A.host]: answers({ Error: 'i-0a is revoked' }, 403) });
  assert.match(await failureOf(one.forward('/x', ''), 'denied'), /i-0a is revoked/);
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
