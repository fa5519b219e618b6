// Goal: an agent tells one server what its host shows, says which calls have no answer, probes what it is asked to, and is
// quiet where nobody wants to know. Method: servers that are functions, a witness that shows what the test says, and a clock
// that only pauses move.
import type { Agent } from 'node:https';
import type { Answer, Call } from '../../src/agent/server-client.ts';
import { createWitnessLoop } from '../../src/agent/witness-loop.ts';
import type { Ipv4 } from '../../src/domain/address.ts';
import { IpamError } from '../../src/domain/error.ts';
import type { EniId } from '../../src/domain/ids.ts';
import { ENDPOINTS_MAX, type HostReading } from '../../src/domain/witness.ts';
import { fakeWitness, MAC, placeOf, useWith } from '../kit/readings.ts';
import { range } from '../kit/rows.ts';
import { assert, suite } from '../kit/uvu.ts';
import { until } from '../kit/wait.ts';

const A = { host: 'a.example.com', port: 443 };
const B = { host: 'b.example.com', port: 443 };
const IP = '10.0.1.9';
const TICKET = '00000000-0000-4000-8000-000000000001';

type Server = (call: Call) => Answer;
const answers = (body: unknown, status = 200): Answer => ({ status, text: JSON.stringify(body) });
const away: Server = () => {
  throw new IpamError('unavailable', 'no answer: ECONNREFUSED');
};
/** A server that asks for these probes. */
const weighs =
  (...probes: string[]): Server =>
  ({ path }) => {
    if (path === '/witness/begin') return answers({ ticket: TICKET, enis: [{ mac: MAC, ips: [IP] }] });
    if (path === '/witness/probed') return answers({});
    return answers({ probes: probes.length === 0 ? [] : [{ mac: MAC, ips: probes }] });
  };

function site(servers: Readonly<Record<string, Server>>) {
  const sent: { to: string; path: string; body: Record<string, never> }[] = [];
  const pauses: number[] = [];
  const lines: string[] = [];
  const stopped = new AbortController();
  const one = { unanswered: [] as EniId[], rounds: 1 };
  const witness = fakeWitness(MAC);
  const loop = createWitnessLoop({
    servers: [A, B],
    serverCa: null,
    identity: { current: async () => ({ agent: {} as Agent }) as never },
    async send(server, call) {
      sent.push({ to: server.host, path: call.path, body: JSON.parse(call.body) });
      return (servers[server.host] ?? away)(call);
    },
    witness,
    unanswered: () => one.unanswered,
    everyMs: 60_000,
    clock: () => 0,
    wait: async ms => {
      pauses.push(ms);
      if (pauses.length > one.rounds) stopped.abort();
    },
    random: () => 0.5,
    log: (_level, message, { error } = {}) => void lines.push(`${message}: ${error}`),
  });
  /** The reading that was told. */
  const told = () => (sent[1]?.body ?? {}) as unknown as { ticket: string; reading: HostReading };
  const paths = () => sent.map(({ to, path }) => `${to[0]} ${path.replace('/witness/', '')}`);
  return Object.assign(one, { ...loop, sent, told, paths, pauses, lines, witness, signal: stopped.signal });
}

const telling = suite('the witness of an agent');

telling('a round: begins, reads, tells, and probes what it is asked to', async () => {
  const one = site({ [A.host]: weighs(IP) });
  one.witness.probes = ips => ({ kind: 'probed', free: ips });
  one.witness.shows = {
    macs: [MAC, '02:0a:1b:2c:3d:99'],
    uses: [useWith(IP as never, { isInNetworks: true }), useWith('172.17.0.2' as never)],
  };
  assert.is(await one.round(), 'told');
  assert.equal(one.paths(), ['a begin', 'a readings', 'a probed']);
  const { ticket, reading } = one.told();
  assert.is(ticket, TICKET);
  assert.equal(reading.macs, [MAC], 'only the interfaces that the server knows');
  assert.equal(reading.uses, [useWith(IP as never, { isInNetworks: true })], 'and only their addresses');
  assert.is(one.witness.probed, `${MAC} ${IP}`);
  assert.equal(one.sent[2]?.body, {
    ticket: TICKET,
    answers: [{ mac: MAC, kind: 'probed', free: [IP] }],
  } as never);
});

telling('endpoints: those on the interfaces that the server knows are told', async () => {
  const one = site({ [A.host]: weighs(IP) });
  const endpoint = { mac: MAC, container: 'c'.repeat(64) };
  const elsewhere = { ...endpoint, mac: '02:0a:1b:2c:3d:99' };
  one.witness.shows = { uses: [useWith(IP as never, { endpoints: [elsewhere, endpoint] })] };
  await one.round();
  assert.equal(one.told().reading.uses[0]?.endpoints, [endpoint]);
});

telling('a probe that fails: is told as such', async () => {
  const one = site({ [A.host]: weighs(IP) });
  one.witness.probes = () => Promise.reject(new IpamError('unavailable', 'no right to'));
  assert.is(await one.round(), 'told');
  assert.equal(one.sent[2]?.body.answers, [{ mac: MAC, kind: 'failed', why: 'no right to' }] as never);
});

telling('calls without an answer: are told, those before the reading and those after it', async () => {
  const one = site({ [A.host]: weighs() });
  one.unanswered = ['eni-0a' as EniId];
  const { read } = one.witness;
  one.witness.read = async () => {
    one.unanswered = ['eni-0b' as EniId];
    return await read();
  };
  await one.round();
  const { reading } = one.told();
  assert.equal(reading.unanswered, ['eni-0a', 'eni-0b']);
});

telling('an address in many namespaces: one is told, a container’s if there is one', async () => {
  const one = site({ [A.host]: weighs() });
  const hosts = Array.from({ length: 200 }, () => placeOf({ isHost: true }));
  one.witness.shows = { uses: [useWith(IP as never, { places: [...hosts, placeOf()] })] };
  await one.round();
  assert.equal(one.told().reading.uses[0]?.places, [placeOf()]);
});

telling(
  'what a user of the host puts into many namespaces: does not make the reading too large for a server',
  async () => {
    const ips = range(735).map(n => `10.0.${n >> 8}.${n & 255}` as Ipv4); // of 15 ENIs with 49 each
    const one = site({ [A.host]: () => answers({ ticket: TICKET, enis: [{ mac: MAC, ips }], probes: [] }) });
    const place = placeOf({ command: 'x'.repeat(200), container: 'c'.repeat(64) });
    const container = { id: 'c'.repeat(64), name: 'n'.repeat(255), image: 'i'.repeat(255) };
    const endpoints = Array(ENDPOINTS_MAX).fill({ mac: MAC, container: container.id });
    one.witness.shows = {
      uses: ips.map(ip => useWith(ip, { places: Array(30).fill(place), container, endpoints })),
    };
    assert.is(await one.round(), 'told');
    assert.ok(JSON.stringify(one.sent[1]?.body).length < 1024 * 1024);
  },
);

telling('a host without ENIs in the ledger: is not read', async () => {
  const one = site({ [A.host]: () => answers({ ticket: TICKET, enis: [] }) });
  assert.is(await one.round(), 'told');
  assert.is(one.witness.readings, 0);
});

telling('a server that is away: another one is told, and again in the next round', async () => {
  const one = site({ [B.host]: weighs() });
  assert.is(await one.round(), 'told');
  assert.is(await one.round(), 'told');
  assert.equal(one.paths(), ['a begin', 'b begin', 'b readings', 'b begin', 'b readings']);
  assert.equal(one.lines, []);
});

telling('a server that goes away in between: the ticket is shown to no other', async () => {
  let isAway = false;
  const one = site({
    [A.host]: call => {
      if (isAway) return away(call);
      isAway = true;
      return weighs()(call);
    },
    [B.host]: weighs(),
  });
  assert.is(await one.round(), 'failed');
  assert.is(await one.round(), 'told');
  assert.equal(one.paths(), ['a begin', 'a readings', 'a begin', 'b begin', 'b readings']);
});

for (const [what, server] of [
  ['off', () => answers({ witness: 'off' })],
  ['of the release before', () => answers({ Error: 'no such endpoint' }, 404)],
] as [string, Server][]) {
  telling(`servers that are ${what}: are asked seldom, quietly, and the host is not read`, async () => {
    const one = site({ [A.host]: server, [B.host]: server });
    await one.run(one.signal);
    assert.equal(one.paths(), ['a begin', 'b begin']);
    assert.equal(one.pauses, [30_000, 600_000]);
    assert.is(one.witness.readings, 0);
    assert.equal(one.lines, []);
  });
  telling(`one server that is ${what}: the other is told`, async () => {
    const one = site({ [A.host]: server, [B.host]: weighs() });
    await one.run(one.signal);
    assert.equal(one.paths(), ['a begin', 'b begin', 'b readings']);
    assert.equal(one.pauses, [30_000, 60_000]);
  });
}

telling('a failure: is said once while it lasts, and the loop goes on', async () => {
  const one = site({ [A.host]: () => answers({ Error: 'i-0a is revoked' }, 403) });
  one.rounds = 3;
  await one.run(one.signal);
  assert.is(one.paths().length, 6);
  assert.is(one.lines.length, 1);
  one.rounds = 5;
});

telling('an answer that is not that of a server: is a failure', async () => {
  for (const answer of [answers({ ticket: 7 }), { status: 200, text: '<html>' }, answers({}, 500)]) {
    const one = site({ [A.host]: () => answer, [B.host]: () => answer });
    assert.is(await one.round(), 'failed');
  }
});
telling('a release: brings the next round forward, ten seconds after the last one', async () => {
  const stopped = new AbortController();
  const waits: { readonly ms: number; readonly over: () => void }[] = [];
  let now = 0;
  let begun = 0;
  const loop = createWitnessLoop({
    servers: [A],
    serverCa: null,
    identity: { current: async () => ({ agent: {} as Agent }) as never },
    async send(_server, call) {
      if (call.path === '/witness/begin') begun++;
      return weighs()(call);
    },
    witness: fakeWitness(MAC),
    unanswered: () => [],
    everyMs: 60_000,
    clock: () => now,
    wait: (ms, signal) =>
      new Promise(over => {
        waits.push({ ms, over });
        signal?.addEventListener('abort', () => over(), { once: true });
      }),
    random: () => 0.5,
    log: () => {},
  });
  const ended = loop.run(stopped.signal);
  waits.shift()?.over();
  await until('the first round is told', () => waits.length === 1);
  assert.is(waits[0]?.ms, 60_000);
  now += 4_000;
  loop.released();
  loop.released();
  assert.equal(
    waits.map(({ ms }) => ms),
    [60_000, 6_000],
  );
  waits[1]?.over();
  await until('the second round is told', () => waits.length === 3);
  assert.is(begun, 2);
  assert.is(waits[2]?.ms, 60_000);
  stopped.abort();
  await ended;
  assert.is(begun, 2);
});
telling.run();
