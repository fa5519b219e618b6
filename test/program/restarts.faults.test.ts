// Goal: a restart loses no request that was written, and pages that are open do not delay it. Method: the bundle on each
// runtime and transport, restarted ten times under clients that keep their connections and ask at once or after a pause,
// while ten streams of live events are open; each client knows what it was told, and the ledger has to say the same.
import { copyFileSync, readFileSync } from 'node:fs';
import { connect, type NetConnectOpts } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { RUNTIMES, type Runtime } from '../../scripts/tiers.ts';
import { sqliteLedger } from '../kit/databases/ledgers.ts';
import { byLength } from '../kit/length.ts';
import { range } from '../kit/rows.ts';
import { type Alone, bundleAlone } from '../kit/servers/alone.ts';
import { startSimulator } from '../kit/servers/bundle.ts';
import { type Certificates, makeCertificates } from '../kit/servers/certificates.ts';
import { type Looking, look } from '../kit/servers/event-streams.ts';
import { type Dialled, KeepAliveClient } from '../kit/servers/keep-alive.ts';
import { freePort, type Program } from '../kit/servers/process.ts';
import { eniName, INSTANCE, worldOf } from '../kit/servers/site.ts';
import { assert, suite } from '../kit/uvu.ts';
import { pause, until } from '../kit/wait.ts';

const TRANSPORTS = ['tcp', 'tls', 'unix'] as const;
type Transport = (typeof TRANSPORTS)[number];
const RESTARTS = byLength({ full: 10, short: 3, leftOut: '7 of 10 restarts under load' });
const CLIENTS = 50;
/** Open pages. */
const STREAMS = 10;
/** Room for more than the clients hold: what a lost call leaves behind must not stop the test. */
const ENIS = range(8).map(eniName);
/** Longest pause of a client between two calls; shorter than a connection must be silent to be closed. */
const PAUSE_MAX_MS = 150;
/** Between a start and the next stop, on average. */
const LOAD_MS = 150;

const TLS_FILES = '--tls-cert cert.pem --tls-key key.pem --tls-client-ca ca.pem';

/** Nothing is assigned or unassigned but what a request needs. */
const SETTINGS = {
  EC2_IPAM_COOLDOWN: '0s',
  EC2_IPAM_QUARANTINE: '0s',
  EC2_IPAM_WARM_MIN: '0',
  EC2_IPAM_WARM_MAX: '30',
  EC2_IPAM_RECONCILE_EVERY: '24h',
  EC2_IPAM_EC2_SHARE: '100%',
};

/** A listener for the pages. */
const ADMIN = ['--admin-listen', 'http://127.0.0.1:0'];

/** How one client passes the time between two calls. */
const RHYTHMS = [async () => {}, () => pause(Math.random() * PAUSE_MAX_MS), () => pause(Math.random() * 10)];

let certificates: Certificates;
const restarts = suite('ten restarts under load');
restarts.before(() => {
  certificates = makeCertificates(undefined, INSTANCE);
});
restarts.after(() => certificates.remove());

interface Endpoint {
  readonly args: readonly string[];
  dial(): Dialled;
}

async function endpointOf(transport: Transport, alone: Alone): Promise<Endpoint> {
  const path = join(alone.folder, 's.sock');
  const plain = (listen: string, to: NetConnectOpts): Endpoint => ({
    args: ['--listen', listen],
    dial: () => ({ socket: connect(to), ready: 'connect' }),
  });
  if (transport === 'unix') return plain(`unix:${path}`, { path });
  const port = await freePort();
  if (transport === 'tcp') return plain(`http://127.0.0.1:${port}`, { port, host: '127.0.0.1' });
  const { server, client, ca } = certificates;
  for (const [name, file] of Object.entries({ cert: server.cert, key: server.key, ca }))
    copyFileSync(file, join(alone.folder, `${name}.pem`));
  const [cert, key, authority] = [client.cert, client.key, ca].map(file => readFileSync(file));
  const own = { port, host: '127.0.0.1', cert, key, ca: authority };
  return {
    args: `--listen https://127.0.0.1:${port} ${TLS_FILES}`.split(' '),
    dial: () => ({ socket: connectTls(own as object), ready: 'secureConnect' }),
  };
}

/** What a client was told that it has, until it was told that it has it no more. */
type Held = Map<string, string>;

/** Takes an address and gives it back, again and again, until it is over; then it keeps what it has. */
async function live(client: KeepAliveClient, index: number, held: Held, isOver: () => boolean) {
  const PoolID = ENIS[index % ENIS.length];
  const rest = RHYTHMS[index % RHYTHMS.length];
  for (let turn = 0; !isOver(); turn++) {
    const Options = { 'com.docker.network.endpoint.name': `c${index}.${turn}` };
    const given = await client.call('/IpamDriver.RequestAddress', { PoolID, Address: '', Options });
    if (given === null) continue;
    if (given.Error !== undefined) throw new Error(`${given.Error}`);
    const Address = String(given.Address).replace(/\/\d+$/, '');
    assert.not(held.has(Address), `${Address} was given twice`);
    held.set(Address, `c${index}.${turn}`);
    await rest?.();
    if (isOver()) return;
    held.delete(Address);
    const released = await client.call('/IpamDriver.ReleaseAddress', { PoolID, Address });
    if (released !== null) assert.equal(released, {});
    await rest?.();
  }
}

async function restartUnderLoad(runtime: Runtime, transport: Transport): Promise<void> {
  const ec2 = await startSimulator(worldOf(ENIS.length));
  const alone = bundleAlone();
  const clients: KeepAliveClient[] = [];
  try {
    const endpoint = await endpointOf(transport, alone);
    const start = async (): Promise<{ server: Program; looking: Looking }> => {
      const args = ['serve', ...endpoint.args, '--state-dir', alone.folder, ...ADMIN];
      const server = alone.start(runtime, args, { ...ec2.env, ...SETTINGS });
      await server.says(/ledger opened/);
      const [, admin = ''] = await server.says(/admin listener on (http:[^"\s]+)/);
      return { server, looking: await look(admin, STREAMS) };
    };
    let { server, looking } = await start();
    clients.push(...range(CLIENTS).map(() => new KeepAliveClient(endpoint.dial)));
    for (const eni of ENIS) {
      const network = { Pool: '10.0.0.0/22', Options: { 'eni-id': eni } };
      assert.is((await clients[0]?.call('/IpamDriver.RequestPool', network))?.Error, undefined);
    }
    let over = false;
    const held: Held = new Map();
    const living = Promise.all(clients.map((client, i) => live(client, i, held, () => over)));
    living.catch(() => {});
    const stops: number[] = [];
    for (let restart = 0; restart < RESTARTS; restart++) {
      const { counts } = looking;
      await until('each page to be told', () => Math.min(...counts) > 0);
      await pause(LOAD_MS * (0.5 + Math.random()));
      const startedAt = performance.now();
      assert.is(await server.stop(), 0);
      stops.push(performance.now() - startedAt);
      await looking.ended;
      ({ server, looking } = await start());
    }
    await pause(LOAD_MS);
    over = true;
    await living;
    const broken = clients.flatMap(client => client.broken);
    const answered = clients.reduce((sum, client) => sum + client.answered, 0);
    for (const client of clients) client.close();
    assert.is(await server.stop(), 0);
    console.log(
      `  ${runtime} over ${transport}: ${RESTARTS} restarts, ${answered} calls answered, ${broken.length} broken, ` +
        `a stop took ${Math.round(Math.min(...stops))} to ${Math.round(Math.max(...stops))} ms`,
    );
    assert.equal(broken, []);
    assert.ok(answered > RESTARTS * CLIENTS, 'the clients have not been served between the restarts');
    const ledger = sqliteLedger(alone.folder);
    const rows = (await ledger.rows()).filter(row => row.status === 'allocated');
    const told = [...held].map(([ip, holder]) => `${ip} ${holder}`).sort();
    assert.equal(rows.map(row => `${row.ip} ${row.holder}`).sort(), told);
  } finally {
    for (const client of clients) client.close();
    await alone.remove();
    await ec2.stop();
  }
}

for (const [i, runtime] of RUNTIMES.entries())
  for (const transport of byLength<readonly Transport[]>({
    full: TRANSPORTS,
    short: TRANSPORTS.slice(i, i + 1),
    leftOut: 'restarts under load of each runtime over two of TCP, TLS and a unix socket',
  }))
    restarts(`${runtime} over ${transport}: no call breaks, only what was answered is held`, () =>
      restartUnderLoad(runtime, transport),
    );
restarts.run();
