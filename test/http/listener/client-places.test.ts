// Goal: no client takes the connections of others, and a host that is gone without a word keeps none. Method: real TLS on
// loopback, with few places.
import { readFileSync } from 'node:fs';
import { Agent as KeepAlive } from 'node:http';
import { Agent } from 'node:https';
import { connect } from 'node:net';
import { NEWCOMER_BOUNDS } from '../../../src/http/listener/newcomers.ts';
import { certificates, LOCAL, PLAIN, TLS, tlsOptions, toward } from '../../kit/servers/transports.ts';
import { assert } from '../../kit/uvu.ts';
import { pause, until } from '../../kit/wait.ts';
import { app, begin, failed, mute, post, serve, serverSuite } from '../server.ts';

const places = serverSuite('places of clients', { certificates: true });

places(
  'a certificate with all its places taken: is refused one more, and another one is served',
  async () => {
    const lines: string[] = [];
    const log = (_: unknown, message: string) => void lines.push(message);
    const bounds = { ...NEWCOMER_BOUNDS, ofCertificateMax: 3 };
    const { address } = await serve(TLS.listener(), log, bounds);
    const sign = (instance: string) => certificates.sign('host', `URI:ec2-ipam://instance/${instance}`);
    const [a, renewed, b] = [sign('i-0a'), sign('i-0a'), sign('i-0b')];
    const agents = [a, a, renewed].map(client => new Agent({ keepAlive: true, ...tlsOptions(client) }));
    for (const agent of agents) assert.is(await post(address, 'a', { agent, client: a }), 'POST a');
    assert.ok(await failed(post(address, 'a', { client: a })));
    assert.ok(await failed(post(address, 'a', { client: renewed })), 'another certificate of the host');
    assert.equal(lines, ['connection refused: 3 of one certificate are open']);
    assert.is(await post(address, 'b', { client: b }), 'POST b');
    agents[0]?.destroy();
    await until('a place', async () => !(await failed(post(address, 'a', { client: a }))));
    for (const agent of agents) agent.destroy();
  },
);

places('an address with half of the places of a plain listener: is refused one more', async () => {
  const lines: string[] = [];
  const log = (_: unknown, message: string) => void lines.push(message);
  const { address } = await serve(LOCAL, log, { ...NEWCOMER_BOUNDS, openOfAddressMax: 2 });
  const agents = [new KeepAlive({ keepAlive: true }), new KeepAlive({ keepAlive: true })];
  for (const agent of agents) assert.is(await post(address, 'a', { agent }), 'POST a');
  assert.ok(await failed(post(address, 'a')));
  assert.equal(lines, ['connection refused: 2 of one address are open']);
  agents[0]?.destroy();
  await until('a place', async () => !(await failed(post(address, 'a'))));
  for (const agent of agents) agent.destroy();
});

for (const { name, listener } of [...PLAIN, TLS])
  places(`all places of ${name} taken: one more is refused, until one is left`, async () => {
    const { address } = await serve(listener(), undefined, { ...NEWCOMER_BOUNDS, openMax: 2 });
    const open = [await mute(address), await mute(address)];
    assert.ok(await failed(post(address, 'a')));
    open[0]?.destroy();
    await until('a place', async () => !(await failed(post(address, 'a'))));
    for (const one of open) one.destroy();
  });

/** For so long a client without a pending response may be about to send. */
const SILENT_MS = 1000;
for (const { name, listener } of [...PLAIN, TLS]) {
  /** A server with three places, one of which is taken by a request that waits, and agents with connections. */
  async function crowded(count: number) {
    const { address } = await serve(listener(), undefined, { ...NEWCOMER_BOUNDS, roomMax: 3 });
    const agents = Array.from({ length: count }, () => keepAlive(listener));
    const [oldest, ...others] = agents;
    const { sent: slow } = await begin(() => post(address, 'slow', { path: '/slow', agent: oldest }));
    const ask = async (agent = others.shift()) => assert.is(await post(address, 'a', { agent }), 'POST a');
    return { slow, ask, end: () => destroyAll(agents) };
  }
  places(`the oldest makes room on ${name}: an idle one first`, async () => {
    const { slow, ask, end } = await crowded(4);
    await ask();
    await ask();
    await pause(SILENT_MS);
    await ask();
    app.finish();
    assert.is(await slow, 'POST slow');
    end();
  });
  places(`the oldest makes room on ${name}: without an idle one itself`, async () => {
    const { slow, ask, end } = await crowded(4);
    await Promise.all([ask(), ask(), ask(), failed(slow).then(hasFailed => assert.ok(hasFailed))]);
    end();
  });
}

const destroyAll = (agents: readonly { destroy(): void }[]): void => {
  for (const agent of agents) agent.destroy();
};
const keepAlive = (listener: () => { kind: string }) =>
  listener().kind === 'https'
    ? new Agent({ keepAlive: true, ...tlsOptions(certificates.client) })
    : new KeepAlive({ keepAlive: true });

/** The timers of Linux for connections to the port: 2 is keep-alive. */
const timersTo = (port: number): string[] =>
  readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map(line => line.trim().split(/\s+/))
    .filter(([, local, , state]) => local === `0100007F:${hex(port)}` && state === '01')
    .map(([, , , , , timer = '']) => timer.split(':')[0] ?? '');
const hex = (port: number) => port.toString(16).toUpperCase().padStart(4, '0');

places('a connection: is asked by the kernel whether its client is still there', async () => {
  for (const listener of [LOCAL, TLS.listener()]) {
    const { address } = await serve(listener);
    const port = Number(new URL(address).port);
    const client = connect(toward(address)).on('error', () => {});
    await until('keep-alive', () => timersTo(port).join() === '02');
    client.destroy();
  }
});
places.run();
