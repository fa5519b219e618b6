// Goal: a host uses the ENIs of its own instance and no others, whatever it calls, and a call that an agent repeats is
// made once. Method: the attacks, over real TLS, against two servers on one ledger and one simulated VPC.
import { request } from 'node:http';
import { request as requestTls } from 'node:https';
import { text } from 'node:stream/consumers';
import { STATUSES } from '../../src/domain/allocation.ts';
import { IpamError } from '../../src/domain/error.ts';
import type { Authorize } from '../../src/domain/origin.ts';
import { createAdminApp } from '../../src/http/admin/admin.ts';
import { NETWORKS, REQUESTS } from '../../src/http/admission.ts';
import { createDriver } from '../../src/http/driver.ts';
import { type Listener, type Listening, listen } from '../../src/http/listener/listen.ts';
import { range } from '../kit/rows.ts';
import type { Certificates } from '../kit/servers/certificates.ts';
import {
  certificates,
  LOCAL,
  serverTls,
  socketPath,
  suiteWithFolders,
  tlsOptions,
  toward,
  unixAt,
} from '../kit/servers/transports.ts';
import { assert } from '../kit/uvu.ts';
import { DESCRIBE, ENI_A, ENI_B, ROOMY, SUBNET } from '../kit/vpcs.ts';
import { until } from '../kit/wait.ts';
import { type World, world } from '../kit/world.ts';

type Pair = Certificates['client'];
type Reply = Readonly<Record<string, unknown>>;

let hosts: { readonly a: Pair; readonly b: Pair; readonly nobody: Pair };
let open: Listening[] = [];

const identity = suiteWithFolders('identity', { certificates: true });
identity.before(() => {
  const of = (instance: string) => certificates.sign('host', `URI:ec2-ipam://instance/${instance}`);
  hosts = { a: of('i-0a'), b: of('i-0b'), nobody: certificates.sign('host', 'DNS:host') };
});
identity.after.each(async () => {
  for (const one of open) await one.close(0);
  open = [];
});

const https = (): Listener => ({ ...LOCAL, kind: 'https', tls: serverTls() }) as Listener;

async function serve(
  w: World,
  listener: Listener = https(),
  authorize: Authorize = 'instance',
  inputAgeMs = () => 0,
) {
  const service = { pools: w.pools, allocator: w.allocator, opened: async () => {} };
  const driver = createDriver(service, w.context.log, { authorize, inputAgeMs });
  const listening = await listen(driver, listener, w.context.log);
  open.push(listening);
  return listening.address;
}

interface Call {
  readonly path: string;
  readonly body: object;
  /** The id of the call, and its age. */
  readonly id?: string;
  readonly age?: number | string;
  /** The request that a release names. */
  readonly givenTo?: string;
}
/** Sends the call; `hangUp` closes the connection. */
function send(address: string, client: Pair | null, { path, body, id, age = 0, givenTo }: Call) {
  const headers = {
    ...(id === undefined ? {} : { 'EC2-IPAM-Request-Id': id, 'EC2-IPAM-Sent-Ms-Ago': `${age}` }),
    ...(givenTo === undefined ? {} : { 'EC2-IPAM-Given-To': givenTo }),
  };
  const { promise, resolve, reject } = Promise.withResolvers<Reply>();
  const { path: socket } = toward(address) as { path?: string };
  const url = `${socket === undefined ? address : 'http://localhost'}/${path}`;
  const options = { method: 'POST', agent: false as const, headers };
  const sent =
    client === null
      ? request(url, { ...options, ...(socket === undefined ? {} : { socketPath: socket }) })
      : requestTls(url, { ...options, ...tlsOptions(client) });
  sent.once('response', answer => text(answer).then(body => resolve(JSON.parse(body)), reject));
  sent.once('error', reject).end(JSON.stringify(body));
  return { reply: promise, hangUp: () => sent.destroy() };
}
const call = (address: string, client: Pair | null, asked: Call): Promise<Reply> =>
  send(address, client, asked).reply;

const pool = (eni: string): Call => ({
  path: 'IpamDriver.RequestPool',
  body: { Pool: '10.0.1.0/24', Options: { 'eni-id': eni } },
});
const ask = (eni: string, more: Partial<Call> = {}, Address = ''): Call => ({
  ...{ path: 'IpamDriver.RequestAddress', body: { PoolID: eni, Address }, ...more },
});
const gateway = (eni: string): Call => ({
  path: 'IpamDriver.RequestAddress',
  body: { PoolID: eni, Address: '', Options: { RequestAddressType: 'com.docker.network.gateway' } },
});
const release = (eni: string, Address: string, more: Partial<Call> = {}): Call => ({
  ...{ path: 'IpamDriver.ReleaseAddress', body: { PoolID: eni, Address }, ...more },
});
const releasePool = (eni: string): Call => ({ path: 'IpamDriver.ReleasePool', body: { PoolID: eni } });

const ipOf = ({ Address }: Reply): string => String(Address).split('/')[0] ?? '';
const id = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;

/** All that the ledger and EC2 know. */
async function everything({ store, vpc }: World): Promise<string> {
  const { rows } = await store.withStatus(SUBNET, STATUSES);
  return JSON.stringify([rows, await store.enis(), [...vpc.network.enis()]]);
}

/** A network on A's ENI and two containers there: one given through TLS, one through a socket that proves nothing. */
async function twoHeld(w: World, address: string): Promise<[given: string, unproved: string]> {
  assert.ok((await call(address, hosts.a, pool(ENI_A))).PoolID);
  const given = ipOf(await call(address, hosts.a, ask(ENI_A)));
  return [given, (await w.request(ENI_A)).ip];
}

identity('another host: is refused each call, by both names, and nothing changes', async () => {
  const w = world({ vpc: ROOMY });
  const address = await serve(w);
  const [given, unproved] = await twoHeld(w, address);
  const [ready = ''] = await w.ipsWith('ready');
  await w.warm.stop();
  const calls = [
    pool(ENI_A),
    gateway(ENI_A),
    ask(ENI_A),
    ask(ENI_A, {}, ready),
    ask(ENI_A, {}, '10.0.1.99'),
    ...[given, unproved, ready, '10.0.1.1', '10.0.1.4', '10.0.1.99'].map(ip => release(ENI_A, ip)),
    releasePool(ENI_A),
  ];
  const before = await everything(w);
  for (const one of calls)
    for (const more of [{}, { id: id(1), age: 0 }]) {
      const { Error: refused } = await call(address, hosts.b, { ...one, ...more });
      assert.match(
        String(refused),
        /eni-0a is attached to i-0a, and the client certificate names i-0b;/,
        one.path,
      );
    }
  assert.is(await everything(w), before);
  assert.is(w.callsOf(DESCRIBE) < 8, true, 'few reads');
});

identity(
  'an ENI that moves: takes the right to use it along, and none over what was given before',
  async () => {
    const w = world({ vpc: ROOMY });
    const address = await serve(w);
    const [given] = await twoHeld(w, address);
    w.detach(ENI_A);
    for (const one of [pool(ENI_A), ask(ENI_A), release(ENI_A, given)])
      assert.match(
        String((await call(address, hosts.b, one)).Error),
        /attached to (i-0a|no instance), .* i-0b/,
      );
    assert.is((await w.rowOf(given)).status, 'allocated');
    w.attach(ENI_A, 'i-0b');
    w.time.now += 10_000;
    assert.ok((await call(address, hosts.b, pool(ENI_A))).PoolID);
    const mine = ipOf(await call(address, hosts.b, ask(ENI_A)));
    assert.is((await w.rowOf(mine)).instance, 'i-0b');
    assert.match(
      String((await call(address, hosts.b, release(ENI_A, given))).Error),
      new RegExp(`^${given} on eni-0a was given to i-0a, and the client certificate names i-0b;`),
    );
    assert.match(String((await call(address, hosts.a, ask(ENI_A))).Error), /attached to i-0b, .* i-0a/);
    assert.match(
      String((await call(address, hosts.a, release(ENI_A, mine))).Error),
      /attached to i-0b, .* i-0a/,
    );
    assert.is((await w.rowOf(given)).status, 'allocated');
    assert.is((await w.rowOf(mine)).status, 'allocated');
    assert.equal(await call(address, hosts.a, release(ENI_A, given)), {}, 'its own instance ends it');
    assert.is((await w.rowOf(given)).status, 'ready');
  },
);

identity('a holding without an instance: is ended by the instance that has the ENI', async () => {
  const w = world({ vpc: ROOMY });
  const address = await serve(w);
  const [, unproved] = await twoHeld(w, address);
  assert.is((await w.rowOf(unproved)).instance, null);
  assert.ok((await call(address, hosts.b, release(ENI_A, unproved))).Error);
  assert.equal(await call(address, hosts.a, release(ENI_A, unproved)), {});
  assert.is((await w.rowOf(unproved)).status, 'ready');
});

identity(
  'a certificate that names no instance: may not use an ENI, unless --authorize any says so',
  async () => {
    const w = world({ vpc: ROOMY });
    const address = await serve(w);
    const [given] = await twoHeld(w, address);
    for (const path of [
      'Plugin.Activate',
      'IpamDriver.GetCapabilities',
      'IpamDriver.GetDefaultAddressSpaces',
    ])
      assert.not((await call(address, hosts.nobody, { path, body: {} })).Error, path);
    const calls = [pool(ENI_A), gateway(ENI_A), ask(ENI_A), release(ENI_A, given), releasePool(ENI_A)];
    for (const one of calls)
      assert.match(
        String((await call(address, hosts.nobody, one)).Error),
        /^the client certificate cannot be used: it names no instance; .*--authorize any/,
      );
    const lax = await serve(w, https(), 'any');
    for (const one of calls.slice(0, 3)) assert.not((await call(lax, hosts.nobody, one)).Error, one.path);
    assert.equal(await call(lax, hosts.b, release(ENI_A, given)), {});
    assert.is((await w.rowOf(given)).status, 'ready');
  },
);

identity('a socket and plain http: may use every ENI, as ever', async () => {
  const w = world({ vpc: ROOMY });
  const [given] = await twoHeld(w, await serve(w));
  for (const listener of [LOCAL, unixAt(socketPath())]) {
    const address = await serve(w, listener);
    assert.ok((await call(address, null, pool(ENI_B))).PoolID);
    const ip = ipOf(await call(address, null, ask(ENI_B)));
    assert.is((await w.rowOf(ip)).instance, null);
    assert.equal(await call(address, null, release(ENI_B, ip)), {});
    assert.is((await w.rowOf(ip)).status, 'ready');
  }
  assert.equal(await call(await serve(w, LOCAL), null, release(ENI_A, given)), {});
  assert.is((await w.rowOf(given)).status, 'ready');
});

identity('an ENI that the ledger does not know: is taken in for its own instance only', async () => {
  const w = world({ vpc: ROOMY });
  const address = await serve(w);
  w.putOn(ENI_A, '10.0.1.50');
  assert.ok((await call(address, hosts.b, ask(ENI_A))).Error);
  assert.ok((await call(address, hosts.b, release(ENI_A, '10.0.1.50'))).Error);
  assert.is(await w.store.eni(ENI_A), null);
  assert.equal(await call(address, hosts.a, release(ENI_A, '10.0.1.50')), {});
  assert.is((await w.rowOf('10.0.1.50')).status, 'ready', 'what a lost record held');
  assert.is(ipOf(await call(address, hosts.a, ask(ENI_A))).startsWith('10.0.1.'), true);
});

identity('EC2 is away: releases go on, requests wait and fail with what is missing', async () => {
  const w = world({ vpc: ROOMY });
  const address = await serve(w);
  const [given] = await twoHeld(w, address);
  w.refuseCalls(DESCRIBE, 'InternalError');
  assert.ok((await call(address, hosts.a, ask(ENI_A))).Address, 'within the minute');
  w.time.now += 60_000;
  const before = w.time.now;
  assert.match(
    String((await call(address, hosts.a, ask(ENI_A))).Error),
    /^EC2 has not said within the last minute/,
  );
  assert.ok(w.time.now - before >= 110_000, 'it has waited');
  assert.equal(await call(address, hosts.a, release(ENI_A, given)), {});
  assert.is((await w.rowOf(given)).status, 'ready');
  assert.equal(await call(address, hosts.a, release(ENI_A, '10.0.1.1')), {}, 'it changes nothing');
  assert.equal(await call(address, hosts.a, releasePool(ENI_A)), {});
});

identity('a warm start of an ENI in use: calls EC2 for nothing', async () => {
  const w = world({ vpc: ROOMY });
  const address = await serve(w);
  await twoHeld(w, address);
  await w.warm.stop();
  const calls = w.callsOf();
  for (let i = 0; i < 3; i++) assert.ok((await call(address, hosts.a, ask(ENI_A))).Address);
  assert.is(w.callsOf(), calls);
});

identity('a release that is repeated at another server: ends no later holding', async () => {
  const w = world({ vpc: ROOMY });
  const other = w.another();
  const [first, second] = [await serve(w), await serve(other)];
  const [ip] = await twoHeld(w, first);
  assert.equal(await call(first, hosts.a, release(ENI_A, ip, { id: id(1) })), {});
  assert.is(ipOf(await call(first, hosts.a, ask(ENI_A, { id: id(2) }, ip))), ip);
  for (const address of [second, first]) {
    assert.equal(await call(address, hosts.a, release(ENI_A, ip, { id: id(1), age: 5_000 })), {}, 'the same');
    assert.equal(
      await call(address, hosts.a, release(ENI_A, ip, { id: id(1) })),
      {},
      'one that lay in a buffer',
    );
  }
  assert.is((await w.rowOf(ip)).requestId, id(2));
  w.time.now += 1_000;
  assert.equal(await call(second, hosts.a, release(ENI_A, ip, { id: id(3), age: 1_500 })), {});
  assert.is((await w.rowOf(ip)).status, 'allocated', 'one that was sent before the present claim');
  assert.equal(await call(second, hosts.a, release(ENI_A, ip, { id: id(4), age: 500 })), {});
  assert.is((await w.rowOf(ip)).status, 'ready', 'one that was sent after it');
});

/** Holds back the claims at this server until the returned function is called. */
function holdClaims(w: World): { held(): number; letGo(): void } {
  const waiting: (() => void)[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const move = w.store.move;
  w.context.store.move = async changes => {
    if (changes.some(one => one.move === 'claim')) {
      waiting.push(resolve);
      await promise;
    }
    return await move(changes);
  };
  return { held: () => waiting.length, letGo: resolve };
}

identity('a request that is repeated while the first is under way: has one address', async () => {
  const w = world({ vpc: ROOMY });
  const slow = w.serverWith({ store: { ...w.store } });
  const [first, second] = [await serve(slow), await serve(w.another())];
  assert.ok((await call(second, hosts.a, pool(ENI_A))).PoolID);
  const { held, letGo } = holdClaims(slow);
  const early = send(first, hosts.a, ask(ENI_A, { id: id(1) }));
  await until('the claim', () => held() === 1);
  const again = await call(second, hosts.a, ask(ENI_A, { id: id(1), age: 2_000 }));
  letGo();
  assert.equal(await early.reply, again);
  assert.equal(await w.ipsWith('allocated'), [ipOf(again)]);
});

identity('a request that is repeated after its caller hung up: keeps its address', async () => {
  const w = world({ vpc: ROOMY });
  const slow = w.serverWith({ store: { ...w.store } });
  const [first, second] = [await serve(slow), await serve(w.another())];
  assert.ok((await call(second, hosts.a, pool(ENI_A))).PoolID);
  const claimed = Promise.withResolvers<void>();
  const answered = Promise.withResolvers<void>();
  const { move } = w.store;
  slow.context.store.move = async changes => {
    const made = await move(changes);
    if (!changes.some(one => one.move === 'claim')) return made;
    claimed.resolve();
    await answered.promise;
    return made;
  };
  const early = send(first, hosts.a, ask(ENI_A, { id: id(1) }));
  early.reply.catch(() => {});
  await claimed.promise;
  early.hangUp();
  const again = await call(second, hosts.a, ask(ENI_A, { id: id(1), age: 2_000 }));
  assert.equal(await w.ipsWith('allocated'), [ipOf(again)], 'the address that the first server had claimed');
  const undone = Promise.withResolvers<void>();
  const { undo } = slow.allocator;
  Object.assign(slow.allocator, { undo: (row: never) => undo(row).finally(undone.resolve) });
  answered.resolve();
  await undone.promise;
  assert.equal(await w.ipsWith('allocated'), [ipOf(again)], 'its rollback is a no');
});

identity(
  'ids: count on a socket too, not over plain http; those that cannot be read are refused',
  async () => {
    const w = world({ vpc: ROOMY });
    await w.request(ENI_A);
    const [plain, socket] = [await serve(w, LOCAL), await serve(w, unixAt(socketPath()))];
    const one = ask(ENI_A, { id: id(1) });
    const given = await call(socket, null, one);
    assert.equal(await call(socket, null, one), given);
    assert.is((await w.rowOf(ipOf(given))).requestId, id(1));
    const other = await call(plain, null, one);
    assert.is.not(ipOf(other), ipOf(given));
    assert.is((await w.rowOf(ipOf(other))).requestId, null);
    const address = await serve(w);
    for (const [bad, age] of [
      ['x', 0],
      [id(1).toUpperCase().replace('8', 'A'), 0],
      [id(2), '-1'],
      [id(2), '1e3'],
    ] as const)
      assert.match(
        String((await call(address, hosts.a, ask(ENI_A, { id: bad, age }))).Error),
        /^ec2-ipam-request-id must be a UUID in lower case/,
      );
  },
);

identity(
  'a release that names a request: ends its holding alone; a name that is no UUID is refused',
  async () => {
    const w = world({ vpc: ROOMY });
    const address = await serve(w);
    const ip = ipOf(await call(address, hosts.a, ask(ENI_A, { id: id(1) })));
    const ends = (n: number, givenTo: string) =>
      call(address, hosts.a, release(ENI_A, ip, { id: id(n), givenTo }));
    w.time.now += 60_000; // long enough for what the server remembers to count
    assert.equal(await ends(2, id(7)), {});
    assert.is(await w.statusOf(ip), 'allocated');
    assert.match(String((await ends(3, 'x')).Error), /^ec2-ipam-given-to must be a UUID in lower case/);
    assert.is(await w.statusOf(ip), 'allocated');
    assert.equal(await ends(4, id(1)), {});
    assert.is(await w.statusOf(ip), 'ready');
  },
);

identity('an id that is proved: names the call to its user and in the log; no other id does', async () => {
  const w = world({ vpc: ROOMY });
  const [tls, plain] = [await serve(w), await serve(w, LOCAL)];
  const uuid = `3f2a9c1d${id(1).slice(8)}`;
  const lastId = () => w.lines.at(-1)?.fields.request;
  const proved = await call(tls, hosts.a, ask('eni-0c', { id: uuid }));
  assert.match(String(proved.Error), / \(request 3f2a9c1d\)$/);
  assert.is(lastId(), uuid);
  const claimed = await call(plain, null, ask('eni-0c', { id: uuid }));
  assert.match(String(claimed.Error), / \(request (?!3f2a9c1d)[0-9a-f]{8}\)$/);
  assert.match(String(claimed.Error), ` (request ${lastId()})`);
});

identity(
  'a client that fills its places: takes none of a host, of dockerd or of plain http, whatever ENI it names',
  async () => {
    for (const [door, asked, max, says] of [
      ['plain', ask(ENI_A), REQUESTS.ofEniMax, /^200 requests for eni-0a wait already;/],
      ['plain', pool(ENI_A), NETWORKS.ofClientMax, /^50 requests of 127\.0\.0\.1 wait already;/],
      ['unix', pool(ENI_A), NETWORKS.ofClientMax, /^50 requests of the unix socket wait already;/],
    ] as const) {
      const w = world({ vpc: ROOMY });
      const over = Promise.withResolvers<void>();
      let strangers = 0;
      const opened = () => (strangers++ < max ? over.promise : Promise.resolve());
      const driver = createDriver({ pools: w.pools, allocator: w.allocator, opened }, w.context.log);
      const to = async (listener: Listener) => {
        const listening = await listen(driver, listener);
        open.push(listening);
        return listening.address;
      };
      const tls = await to(https());
      const doors = { plain: await to(LOCAL), unix: await to(unixAt(socketPath())) };
      const other = doors[door === 'plain' ? 'unix' : 'plain'];
      const waiting = range(max).map(() => call(doors[door], null, asked));
      await until('they wait', () => strangers === max);
      assert.match(String((await call(doors[door], null, asked)).Error), says);
      for (const one of [pool(ENI_A), ask(ENI_A)]) {
        assert.not((await call(tls, hosts.a, one)).Error);
        assert.not((await call(other, null, one)).Error);
      }
      over.reject(new IpamError('unavailable', 'over'));
      for (const { Error: error } of await Promise.all(waiting)) assert.match(String(error), /^over/);
      assert.not.match(
        String((await call(doors[door], null, asked)).Error),
        /wait already/,
        'the places are free',
      );
      for (const one of open.splice(0)) await one.close(0);
    }
  },
);

identity(
  'a server that was stopped: does nothing for agents, whose calls may be old, and says so',
  async () => {
    const w = world({ vpc: ROOMY });
    let ageMs = 0;
    const address = await serve(w, https(), 'instance', () => ageMs);
    await call(address, hosts.a, pool(ENI_A));
    const given = ipOf(await call(address, hosts.a, ask(ENI_A)));
    ageMs = 20_000;
    const before = await everything(w);
    for (const one of [ask(ENI_A, { id: id(1) }), release(ENI_A, given, { id: id(2) })])
      assert.match(
        String((await call(address, hosts.a, one)).Error),
        /^the server was stopped for some time/,
      );
    assert.is(await everything(w), before);
  },
);
identity('a server that was stopped: ends for dockerd only what was held before', async () => {
  const w = world({ vpc: ROOMY });
  let ageMs = 0;
  const address = await serve(w, https(), 'instance', () => ageMs);
  await call(address, hosts.a, pool(ENI_A));
  const given = ipOf(await call(address, hosts.a, ask(ENI_A)));
  w.time.now += 30_000;
  ageMs = 20_000;
  assert.equal(await call(address, hosts.a, release(ENI_A, given)), {});
  assert.is(await w.statusOf(given), 'ready');
  await call(address, hosts.a, ask(ENI_A, {}, given));
  assert.is(await w.statusOf(given), 'allocated');
  assert.match(
    String((await call(address, hosts.a, release(ENI_A, given))).Error),
    /^10\.0\.1\.\d+ may have been given anew before this release reached the ledger; if nobody uses it, run/,
  );
  assert.is(await w.statusOf(given), 'allocated');
});

identity('the admin listener: is opened by no certificate of a Docker host', async () => {
  const page = { fetch: async () => new Response('a page') };
  const app = createAdminApp({
    kind: 'https',
    ready: async () => ({ isReady: true, store: 'ok', ec2: 'ok' }),
    metrics: { contentType: 'text/plain', text: async () => 'up 1\n' },
    api: async () => page,
    pages: page,
  });
  const listening = await listen(app, https(), () => {});
  open.push(listening);
  const get = async (path: string, client: Pair) => {
    const sent = requestTls(`${listening.address}${path}`, { agent: false, ...tlsOptions(client) });
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    sent.once('response', answer => text(answer).then(resolve, reject));
    sent.once('error', reject).end();
    return await promise;
  };
  for (const path of ['/', '/metrics', '/api/v1/overview', '/healthz']) {
    assert.match(await get(path, hosts.a), /the client certificate is that of the Docker host i-0a/, path);
    assert.not.match(await get(path, hosts.nobody), /certificate/, path);
  }
  const uri = (instance: string) => `URI:ec2-ipam://instance/${instance}`;
  for (const [names, why] of [
    [`${uri('i-0a')},${uri('i-0b')}`, 'it names several'],
    [uri('i-0a/x'), 'is not an id'],
    ['URI:EC2-IPAM://instance/i-0a', 'is not an id'],
  ] as const)
    assert.match(
      await get('/', certificates.sign('host', names)),
      new RegExp(`the client certificate is that of a Docker host, and cannot be used: .*${why}`),
    );
});
identity.run();
