// Goal: who has no valid certificate is answered nothing but enrolment, on connections that are open too. Method: real TLS
// on loopback, with certificates of the ledger's authority, of the operator's, and of nobody.

import { spawn } from 'node:child_process';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { sendCall } from '../../../src/agent/server-client.ts';
import type { InstanceId } from '../../../src/domain/ids.ts';
import { type ClientGate, createClientGate } from '../../../src/http/hosts/client-gate.ts';
import { createGuardedApp } from '../../../src/http/hosts/guarded-app.ts';
import { type Listening, listen } from '../../../src/http/listener/listen.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import { openAuthority } from '../../../src/trust/authority.ts';
import type { Trust } from '../../../src/trust/trust.ts';
import { removeFolder, tempFolder } from '../../kit/folders.ts';
import { type Certificates, makeCertificates } from '../../kit/servers/certificates.ts';
import { trustWith } from '../../kit/trust.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { until } from '../../kit/wait.ts';

const A = 'i-0a' as InstanceId;
const B = 'i-0b' as InstanceId;
const DAY_MS = 24 * 3_600_000;
const PASSPHRASE = 'a passphrase for tests';
const ROLES = [{ account: '123456789012', role: 'host', profile: 'host' }];

interface Context {
  store: ReturnType<typeof createMemoryStore>;
  trust: Trust;
  gate: ClientGate;
  listening: Listening;
  /** How far the server's time of day is ahead. */
  aheadMs: number;
  /** Messages of the log. */
  lines: string[];
}
interface Shown {
  cert: string;
  key: string;
}
let certificates: Certificates;
let open: Context[] = [];
let agents: Agent[] = [];

const gates = suite('clients of an https listener');
gates.before(() => {
  certificates = makeCertificates();
});
gates.after(() => certificates.remove());
gates.after.each(async () => {
  for (const agent of agents) agent.destroy();
  for (const { listening } of open) await listening.close(0);
  open = [];
  agents = [];
});

async function start({ enrols = true, hasClientCa = true, opened = true } = {}): Promise<Context> {
  const store = createMemoryStore();
  const trust = trustWith(store, enrols ? { roles: ROLES, passphrase: PASSPHRASE } : {});
  const context = { store, trust, aheadMs: 0, lines: [] as string[] } as Context;
  const gate = createClientGate(
    trust,
    () => Date.now() + context.aheadMs,
    (_, message) => void context.lines.push(message),
  );
  const app = (name: string) => ({ fetch: async () => new Response(name) });
  const { cert, key } = certificates.server;
  const tls = { cert, key, clientCa: hasClientCa ? certificates.ca : null, gate };
  const listening = await listen(
    createGuardedApp(gate, { driver: app('driver'), enrolment: app('enrolment'), witness: app('witness') }),
    {
      kind: 'https',
      host: '127.0.0.1',
      port: 0,
      tls,
    },
  );
  Object.assign(context, { gate, listening });
  open.push(context);
  if (opened) await openTrust(context);
  return context;
}

async function openTrust({ trust, gate }: Context): Promise<void> {
  await trust.open();
  gate.refresh();
}

/** A certificate of the authority, for a host that enrolled `agoMs` ago. */
async function issued({ store }: Context, instance: InstanceId, agoMs = 0, lifeMs = DAY_MS): Promise<Shown> {
  const authority = await openAuthority(store, PASSPHRASE, Date.now());
  const { publicKey, privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'der' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  const from = Date.now() - agoMs;
  return { cert: await authority.issue(instance, publicKey, from, from + lifeMs), key: privateKey };
}
const file = ({ cert, key }: { cert: string; key: string }): Shown => ({
  cert: readFileSync(cert, 'utf8'),
  key: readFileSync(key, 'utf8'),
});

/** Connections that are kept, with this certificate or none. */
function client({ listening }: Context, shown?: Shown) {
  const serverCa = readFileSync(certificates.ca, 'utf8');
  const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: serverCa, ...shown });
  agents.push(agent);
  const server = { host: '127.0.0.1', port: Number(new URL(listening.address).port) };
  return async (path = '/IpamDriver.RequestAddress'): Promise<string> => {
    const { status, text } = await sendCall(server, { path, body: '{}', agent, serverCa, withinMs: 10_000 });
    return `${status} ${text}`;
  };
}

const NONE = /^403 .*a client certificate is needed; enrol by ec2-ipam agent/;

gates('without a certificate: only enrolment is answered', async () => {
  const ask = client(await start());
  for (const path of ['/enroll', '/enroll/nonce']) assert.is(await ask(path), '200 enrolment');
  for (const path of ['/Plugin.Activate', '/enroll/', '/enroll?x', '//enroll', '/x/../enroll', '/metrics'])
    assert.match(await ask(path), NONE, path);
});

gates(
  'a connection without a certificate: ends with its answer, so that it takes no place from hosts',
  async () => {
    const { listening } = await start();
    for (const path of ['/enroll/nonce', '/Plugin.Activate']) {
      const socket = connectTls({
        port: Number(new URL(listening.address).port),
        ca: readFileSync(certificates.ca),
      });
      const ended = once(socket, 'end');
      socket.resume().write(`POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}`);
      await ended;
      socket.destroy();
    }
  },
);

/** One request by openssl, which keeps the session of its connection in a file. Returns the status, and whether it has
 *  resumed the session that was there. */
async function bySession({ listening }: Context, shown: Shown, version: string, session: string) {
  const { host } = new URL(listening.address);
  const kept = existsSync(session) ? ['-sess_in', session] : [];
  const files = ['-CAfile', certificates.ca, '-cert', shown.cert, '-key', shown.key, '-sess_out', session];
  const client = spawn('openssl', ['s_client', '-connect', host, version, ...files, ...kept, '-ign_eof']);
  client.stdin.end('POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}');
  const said = await text(client.stdout);
  return [said.match(/HTTP\/1\.1 (\d+)/)?.[1], /^Reused,/m.test(said)];
}

for (const version of ['-tls1_2', '-tls1_3'])
  gates(`a session that is resumed (${version}): makes no certificate good that was none`, async () => {
    const context = await start();
    const folder = tempFolder();
    const ask = (name: 'client' | 'rogue') =>
      bySession(context, certificates[name], version, join(folder, name));
    assert.equal(await ask('client'), ['200', false]);
    assert.equal(await ask('client'), ['200', true]);
    assert.equal(await ask('rogue'), ['403', false]);
    assert.is((await ask('rogue'))[0], '403');
    removeFolder(folder);
  });

gates('where hosts cannot enrol: nobody connects without a certificate', async () => {
  const ask = client(await start({ enrols: false }));
  assert.match(await ask('/enroll').catch(String), /no answer/);
});

gates("a host that enrolled: is served, beside clients of the operator's authority", async () => {
  const context = await start();
  assert.is(await client(context, await issued(context, A))(), '200 driver');
  assert.is(await client(context, file(certificates.client))(), '200 driver');
  assert.equal([...context.gate.connected()], [A]);
});

gates('without an authority of the operator: only hosts that enrolled are served', async () => {
  const context = await start({ hasClientCa: false });
  assert.is(await client(context, await issued(context, A))(), '200 driver');
  for (const pair of [certificates.client, certificates.server, certificates.rogue])
    assert.match(await client(context, file(pair))(), /^403 .*the certificate is not accepted/);
});

gates('a certificate of another authority: is not accepted, though it names an instance', async () => {
  const [context, other] = [await start(), await start()];
  const ask = client(context, await issued(other, A));
  assert.match(await ask(), /^403 .*the certificate of i-0a is not accepted/);
  assert.equal([...context.gate.connected()], []);
});

gates('a certificate that has expired: is not accepted', async () => {
  const context = await start();
  const ask = client(context, await issued(context, A, 2 * DAY_MS));
  assert.match(await ask(), /^403 .*the certificate of i-0a expired on .*; the host must enrol again/);
});

gates('a certificate that expires on an open connection: ends the connection', async () => {
  const context = await start();
  const ask = client(context, await issued(context, A));
  assert.is(await ask(), '200 driver');
  context.aheadMs = DAY_MS;
  assert.match(await ask(), /^403 .*expired/);
  context.gate.refresh();
  await until('it is closed', () => context.gate.connected().size === 0);
});

gates('a host that is revoked: its open connection ends, and no other is served', async () => {
  const context = await start();
  const shown = await issued(context, A, 60_000);
  const [a, b] = [client(context, shown), client(context, await issued(context, B))];
  assert.equal([await a(), await b()], ['200 driver', '200 driver']);
  await context.store.revokeHost(A);
  await context.trust.hosts.refresh(context.gate.connected());
  context.gate.refresh();
  await until('it is closed', () => !context.gate.connected().has(A));
  assert.match(
    await client(context, shown)(),
    /^403 .*the certificate of i-0a is revoked; ec2-ipam hosts allow i-0a/,
  );
  assert.is(await b(), '200 driver', 'others are not');
  await context.store.allowHost(A);
  await context.trust.hosts.refresh(new Set());
  assert.match(await client(context, shown)(), /^403 .*revoked/, 'what was made before');
  assert.is(await client(context, await issued(context, A, -2000))(), '200 driver', 'what is made since');
});

gates('who is connected: is noted in the ledger', async () => {
  const context = await start();
  await client(context, await issued(context, A))();
  await context.trust.hosts.refresh(context.gate.connected());
  const { rows } = await context.store.hosts();
  assert.equal(
    rows.map(host => [host.instance, host.seenAt !== null]),
    [[A, true]],
  );
});

gates('before the ledger is open: a host hears that it shall try again, and is served then', async () => {
  const context = await start({ opened: false });
  const shown = await issued(context, A);
  const ask = client(context, shown);
  assert.match(await ask(), /^503 .*the ledger is not open yet/);
  await openTrust(context);
  assert.is(await ask(), '200 driver', 'the same client');
  assert.is(await client(context, shown)(), '200 driver', 'another');
});
/** A connection that the TLS library accepts. */
function accepted({ cert }: Shown): { socket: TLSSocket; isDestroyed: () => boolean } {
  let destroyed = false;
  const socket = {
    authorized: true,
    authorizationError: null,
    getPeerX509Certificate: () => new X509Certificate(cert),
    once: () => {},
    destroy: () => {
      destroyed = true;
    },
  };
  return { socket: socket as never as TLSSocket, isDestroyed: () => destroyed };
}

gates('what the TLS library accepts by an authority of the system: is not accepted', async () => {
  for (const opened of [true, false]) {
    const { gate } = await start({ hasClientCa: false, opened });
    const { socket } = accepted(file(certificates.client));
    gate.came(socket, false);
    assert.is(gate.refusalOf(socket, 'POST', '/Plugin.Activate')?.status, opened ? 403 : 503);
    assert.equal([...gate.connected()], []);
  }
});

gates('connections of a revoked host: are closed, and no others', async () => {
  const context = await start();
  const shown = await issued(context, A, 60_000);
  const all = Array.from({ length: 5 }, () => accepted(shown));
  const b = accepted(await issued(context, B));
  for (const { socket } of [...all, b]) context.gate.came(socket, false);
  await context.store.revokeHost(A);
  await context.trust.hosts.refresh(context.gate.connected());
  context.gate.refresh();
  assert.equal([all.every(one => one.isDestroyed()), b.isDestroyed()], [true, false]);
  assert.equal(context.lines, ['client disconnected'], 'more of them are one line a second');
});
gates.run();
