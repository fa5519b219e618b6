// Goal: a host always has a valid certificate of its own instance, proves anew for each, and survives servers that are
// away. Method: the agent's side against the server's, in one process, with the simulated STS and EC2 and a clock that
// only waiting moves.
import '../../src/cloud/caller-identity.ts'; // which enrolling loads: no time of the clock passes meanwhile
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createCredentialFile } from '../../src/agent/credential.ts';
import { createIdentity, type Identity } from '../../src/agent/identity.ts';
import type { Call, SendCall, ServerUrl } from '../../src/agent/server-client.ts';
import type { ReadMetadata } from '../../src/cloud/imds.ts';
import { createMemoryClient } from '../../src/cloud/memory.ts';
import { IpamError } from '../../src/domain/error.ts';
import type { InstanceId } from '../../src/domain/ids.ts';
import { createEnrolmentApp } from '../../src/http/hosts/enrolment.ts';
import type { Vpc } from '../../src/simulator/model/vpc.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import type { Trust } from '../../src/trust/trust.ts';
import { failureOf } from '../kit/failures.ts';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { type Certificates, makeCertificates } from '../kit/servers/certificates.ts';
import { ETH0, INSTANCE, type Served, serve, simulated } from '../kit/simulated.ts';
import { trustWith } from '../kit/trust.ts';
import { assert, suite } from '../kit/uvu.ts';

const ROLE = { account: '123456789012', role: 'simulated-role', profile: 'simulated-role' };
const SERVER = { host: 'localhost', port: 443 };
const ODD = { nonce: 'A'.repeat(56), region: 'eu-central-1', certificate: 'none' };
const HOUR_MS = 3_600_000;

interface Context {
  folder: string;
  vpc: Vpc;
  sts: Served;
  store: ReturnType<typeof createMemoryStore>;
  trust: Trust;
  /** The time, of all clocks. */
  now: number;
  /** The calls of the agent. */
  calls: [to: string, path: string][];
  /** Servers that do not answer. */
  away: string[];
  /** Servers whose certificates are none. */
  odd: string[];
  lines: string[];
  instance: string;
  /** Requests that are under way. */
  pending: number;
  start(servers?: readonly ServerUrl[]): { identity: Identity; stop(): Promise<void> };
}

let certificates: Certificates;

const identities = suite<Context>('the identity of a host');
identities.before(() => {
  certificates = makeCertificates();
});
identities.after(() => certificates.remove());
identities.before.each(async context => {
  const vpc = simulated();
  const store = createMemoryStore({ clock: () => context.now });
  const sts = await serve(createSimulator(vpc, { instance: INSTANCE, wallClock: () => context.now }));
  const ec2 = createMemoryClient(vpc, { wait: async () => {}, deadlineClock: () => 0 });
  const trust = trustWith(store, {
    roles: [ROLE],
    passphrase: 'a passphrase for tests',
    describe: id => ec2.instance(id),
    stsOverride: sts.url,
    timeOfDay: () => context.now,
  });
  Object.assign(context, {
    folder: tempFolder(),
    vpc,
    sts,
    store,
    trust,
    now: Date.now(),
    calls: [],
    away: [],
    odd: [],
    lines: [],
    pending: 0,
  });
  context.instance = INSTANCE;
  await trust.open();
  context.start = (servers = [SERVER]) => start(context, servers);
});
identities.after.each(({ sts, folder }) => {
  sts.close();
  removeFolder(folder);
});

/** The server's side, as if over TLS from the address that the agent binds. */
function wireOf(context: Context): SendCall {
  const app = createEnrolmentApp(context.trust, () => {}, {
    serverCertificate: () => readFileSync(certificates.server.cert, 'utf8'),
    clock: () => context.now,
  });
  return async ({ host }, { path, body, from }: Call) => {
    context.calls.push([host, path]);
    if (context.odd.includes(host)) return { status: 200, text: JSON.stringify(ODD) };
    if (context.away.includes(host)) throw new IpamError('unavailable', `no answer from ${host}`);
    const request = new Request(`https://${host}${path}`, { method: 'POST', body });
    const socket = { encrypted: true, remoteAddress: `::ffff:${from}` };
    context.pending++;
    try {
      const answer = await app.fetch(request, { incoming: { socket } } as never);
      return { status: answer.status, text: await answer.text() };
    } finally {
      context.pending--;
    }
  };
}

function metadataOf({ vpc, instance }: Context): ReadMetadata {
  const {
    accessKeyId: AccessKeyId,
    secretAccessKey: SecretAccessKey,
    token: Token,
  } = vpc.sessions.assume(ROLE.role, instance);
  const values: Record<string, string> = {
    'instance-id': instance,
    'local-ipv4': vpc.network.eni(ETH0).primary ?? '',
    'iam/security-credentials/': ROLE.role,
    [`iam/security-credentials/${ROLE.role}`]: JSON.stringify({ AccessKeyId, SecretAccessKey, Token }),
  };
  return async path => ({ kind: 'value', text: values[path] ?? '' });
}

function start(context: Context, servers: readonly ServerUrl[]) {
  const identity = createIdentity({
    servers,
    serverCa: null,
    send: wireOf(context),
    metadata: metadataOf(context),
    file: createCredentialFile(context.folder, () => {}),
    stsOverride: context.sts.url,
    timeOfDay: () => context.now,
    clock: () => context.now,
    async wait(ms) {
      // The requests take real time.
      if (context.pending === 0) context.now += ms;
      await new Promise(setImmediate);
    },
    random: () => 0.5,
    log: (_level, message, fields) => void context.lines.push(`${message} ${fields?.error ?? ''}`),
  });
  const ending = new AbortController();
  const running = identity.run(ending.signal);
  return {
    identity,
    async stop() {
      ending.abort();
      await running;
    },
  };
}

const enrolments = ({ calls }: Context): number => calls.filter(([, path]) => path === '/enroll').length;

identities('a host that starts: enrols, and keeps key and certificate for itself', async context => {
  const { identity, stop } = context.start();
  const { instance, expiresAt, key } = await identity.current(context.now + 60_000);
  await stop();
  assert.is(instance, INSTANCE);
  assert.ok(expiresAt > context.now + 23 * HOUR_MS);
  const path = join(context.folder, 'agent.pem');
  assert.is(statSync(path).mode & 0o777, 0o600);
  assert.match(readFileSync(path, 'utf8'), key.trim());
  assert.equal(
    (await context.store.hosts()).rows.map(host => host.instance),
    [INSTANCE],
  );
});

identities('a restart: uses the certificate, also while all servers are away', async context => {
  const first = context.start();
  const { certificate } = await first.identity.current(context.now + 60_000);
  await first.stop();
  context.away = [SERVER.host];
  const second = context.start();
  const again = await second.identity.current(context.now + 60_000);
  await second.stop();
  assert.is(again.certificate, certificate);
  assert.is(enrolments(context), 1);
});

identities('a host made from the image of another: does not use its certificate', async context => {
  const first = context.start();
  await first.identity.current(context.now + 60_000);
  await first.stop();
  const clone = 'i-0c10' as InstanceId;
  context.vpc.network.addInstance({ id: clone, type: 'm5.large', zone: 'eu-central-1a' });
  context.instance = clone;
  const second = context.start();
  const reason = await failureOf(second.identity.current(context.now + 30_000), 'denied');
  await second.stop();
  assert.match(reason, /the primary address of i-0c10 is null/);
});

identities('a saved key that others can read: is not used', async context => {
  const first = context.start();
  await first.identity.current(context.now + 60_000);
  await first.stop();
  chmodSync(join(context.folder, 'agent.pem'), 0o644);
  const second = context.start();
  await second.identity.current(context.now + 60_000);
  await second.stop();
  assert.is(enrolments(context), 2);
});

identities('half of its life: a new key and a new proof, and nobody waits', async context => {
  const { identity, stop } = context.start();
  const first = await identity.current(context.now + 60_000);
  context.now += 11 * HOUR_MS;
  assert.is(await identity.current(context.now), first);
  context.now += 2 * HOUR_MS;
  while (enrolments(context) < 2) await new Promise(setImmediate);
  let second = await identity.current(context.now);
  while (second === first) {
    await new Promise(setImmediate);
    second = await identity.current(context.now);
  }
  await stop();
  assert.is.not(second.key, first.key);
  assert.is.not(second.certificate, first.certificate);
});

identities('a server that is away: another enrols the host', async context => {
  context.away = ['a.example.com'];
  const { identity, stop } = context.start([{ host: 'a.example.com', port: 443 }, SERVER]);
  assert.is((await identity.current(context.now + 60_000)).instance, INSTANCE);
  await stop();
});

identities('a host that is refused: says why to whom waits for it, and logs it once', async context => {
  await context.store.revokeHost(INSTANCE);
  const { identity, stop } = context.start();
  const reason = await failureOf(identity.current(context.now + 120_000), 'denied');
  assert.match(reason, /not enrolled: i-\w+ is revoked; ec2-ipam hosts allow i-\w+ ends that/);
  assert.ok(enrolments(context) > 3, 'it goes on trying');
  assert.is(
    context.lines.filter(line => line.startsWith('not enrolled')).length,
    1,
    context.lines.join('\n'),
  );
  await context.store.allowHost(INSTANCE);
  assert.is((await identity.current(context.now + 120_000)).instance, INSTANCE);
  await stop();
});

identities('a certificate that a server refuses: a new one is asked for', async context => {
  const { identity, stop } = context.start();
  const first = await identity.current(context.now + 60_000);
  identity.refused(first);
  const second = await identity.current(context.now + 60_000);
  identity.refused(first); // of an answer that came late
  assert.is(await identity.current(context.now), second);
  await stop();
  assert.is.not(second.certificate, first.certificate);
});

identities('a folder that cannot be written: the host enrols, and goes on', async context => {
  removeFolder(context.folder);
  writeFileSync(context.folder, 'a file');
  const { identity, stop } = context.start();
  assert.is((await identity.current(context.now + 60_000)).instance, INSTANCE);
  await stop();
  assert.ok(
    context.lines.some(line => line.startsWith('certificate not saved')),
    context.lines.join('\n'),
  );
});

identities(
  'a server that answers with what is no certificate: is not believed, and another is asked',
  async context => {
    context.odd = ['odd.example.com'];
    const { identity, stop } = context.start([{ host: 'odd.example.com', port: 443 }, SERVER]);
    assert.is((await identity.current(context.now + 60_000)).instance, INSTANCE);
    await stop();
  },
);

identities('a refusal: is told also when another server is away', async context => {
  await context.store.revokeHost(INSTANCE);
  context.away = ['a.example.com'];
  const { identity, stop } = context.start([SERVER, { host: 'a.example.com', port: 443 }]);
  assert.match(await failureOf(identity.current(context.now + 60_000), 'denied'), /is revoked/);
  await stop();
});

identities('an address that asks too often: is put off, others are not', async context => {
  const send = wireOf(context);
  const call = (from: string) => ({
    path: '/enroll/nonce',
    body: '{}',
    withinMs: 1,
    agent: false as const,
    serverCa: null,
    from,
  });
  const statuses: number[] = [];
  for (let i = 0; i < 61; i++) statuses.push((await send(SERVER, call('10.0.1.99'))).status);
  assert.equal([statuses.filter(one => one === 200).length, statuses.at(-1)], [60, 503]);
  assert.is((await send(SERVER, call('10.0.1.98'))).status, 200);
  context.now += 60_000;
  assert.is((await send(SERVER, call('10.0.1.99'))).status, 200);
});
identities.run();
