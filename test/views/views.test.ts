// Goal: the views show what the ledger has, and what is wrong first. Method: a ledger in memory on a clock that the test
// moves; each answer is held against its schema.
import * as v from 'valibot';
import { type Cidr, parseCidr } from '../../src/domain/address.ts';
import { isError } from '../../src/domain/error.ts';
import type { EniId, InstanceId } from '../../src/domain/ids.ts';
import type { Observer } from '../../src/domain/observer.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import type { Store } from '../../src/store/store.ts';
import { AddressView } from '../../src/views/address.ts';
import { EniView } from '../../src/views/eni.ts';
import { HealthView } from '../../src/views/health.ts';
import { HostsView } from '../../src/views/hosts.ts';
import { createRecent } from '../../src/views/live/recent.ts';
import { Overview } from '../../src/views/overview.ts';
import { ofHolders } from '../../src/views/parts/problems.ts';
import { SearchView } from '../../src/views/search.ts';
import { SubnetMap } from '../../src/views/subnet-map.ts';
import { createViews, type Views } from '../../src/views/views.ts';
import { eniWith, make, makeReady, newRow, newRows, one } from '../kit/ledger.ts';
import { ENI, ip, OTHER_ENI, OTHER_SUBNET, range, SUBNET } from '../kit/rows.ts';
import { noteSightings, sightingWith } from '../kit/sightings.ts';
import { inTurns } from '../kit/turns.ts';
import { assert, suite } from '../kit/uvu.ts';

const MINUTE_MS = 60_000;

interface Context {
  store: Store;
  views: Views;
  viewsOf(store: Store): Views;
  /** The last event, and how often it was asked for. */
  live: { event: string; asked: number };
  told: Partial<Observer>;
  advance(ms: number): void;
  /** The problems of the overview by kind. */
  problems(): Promise<Record<string, string[]>>;
}
const test = suite<Context>('views');
test.before.each(async context => {
  let now = 1_700_000_000_000;
  const store = createMemoryStore({ clock: () => now, origin: 'server-1' });
  const recent = createRecent(() => now);
  const live = { event: 'e-7', asked: 0 };
  const lastEvent = () => {
    live.asked += 1;
    return live.event;
  };
  const viewsOf = (of: Store) =>
    createViews({
      ...{ store: of, recent, clock: () => now, lastEvent },
      policy: {
        ...{ cooldownMs: 30_000, quarantineMs: 600_000, callDeadlineMs: 20_000, graceMs: 930_000 },
        ...{ warmMin: 2, warmMax: 6 },
      },
      server: { id: 'server-1', version: '1.2.3', runtime: 'node 24' },
    });
  const views = viewsOf(store);
  const advance = (ms: number) => {
    now += ms;
  };
  async function problems() {
    advance(2000); // a view is kept for a second
    const { problems: found } = v.parse(Overview, await views.overview());
    const byKind = Map.groupBy(found, ({ kind }) => kind);
    return Object.fromEntries([...byKind].map(([kind, of]) => [kind, of.map(({ text }) => text)]));
  }
  Object.assign(context, { store, views, viewsOf, live, told: recent.observer, advance, problems });
  await store.saveSubnet({ id: SUBNET, vpc: 'vpc-0a', cidr: parseCidr('10.0.1.0/24') });
  await store.saveEnis([eniWith({ addressLimit: 10 })]);
  await store.adopt(ENI);
  await store.add([
    ...[0, 1, 2, 3, 255].map(last => newRow(last, { status: 'reserved' })),
    newRow(5, { status: 'occupied', iface: ENI, primary: true }),
    ...newRows(6, 7, 8, 9, 10, 11, 12, 13),
  ]);
});

test('the overview: says how full a subnet is, what operators have reserved, and nothing is wrong', async context => {
  const { store, views, problems } = context;
  for (const last of [6, 7, 8]) await makeReady(store, last);
  await make(store, 6, 'claim');
  for (const last of [10, 11]) await make(store, last, 'hold', { reservedFor: 'dns' });
  assert.equal(await problems(), {});
  const { subnets, reserved, lastEvent } = await views.overview();
  assert.is(lastEvent, 'e-7');
  const [subnet] = subnets;
  assert.equal([subnet?.cidr, subnet?.size, subnet?.counts.free], ['10.0.1.0/24', 256, 3]);
  assert.equal(
    [subnet?.counts.ready, subnet?.counts.allocated, subnet?.counts.reserved, subnet?.full],
    [2, 1, 7, 1 - 5 / 7],
  );
  assert.equal(
    reserved.map(({ addresses, count, why }) => [addresses, count, why]),
    [['10.0.1.10-10.0.1.11', 2, 'dns']],
  );
});

test('the overview: goes on after the event before its reading, however long that is kept', async context => {
  const { store, advance, viewsOf, live } = context;
  live.event = 'e-1';
  let changes = 0;
  const views = viewsOf({
    ...store,
    async lowPools(...given) {
      if (changes === 0) live.event = 'e-2'; // while it is read
      changes += 1;
      return await store.lowPools(...given);
    },
  });
  assert.is((await views.overview()).lastEvent, 'e-1');
  live.event = 'e-3';
  const asked = live.asked;
  assert.is((await views.overview()).lastEvent, 'e-1');
  assert.ok(live.asked > asked, 'what moves is kept for this reader too');
  advance(1000);
  assert.is((await views.overview()).lastEvent, 'e-3');
});

test('counts that are kept: a view with them goes on after the event before they were made', async context => {
  const { views, advance, live } = context;
  const [mapAt, overviewAt] = [
    async () => (await views.subnet(SUBNET, null))?.lastEvent,
    async () => (await views.overview()).lastEvent,
  ];
  live.event = 'e-1';
  assert.is(await mapAt(), 'e-1');
  live.event = 'e-2';
  assert.equal([await mapAt(), await overviewAt()], ['e-1', 'e-1']);
  advance(1000);
  assert.equal([await mapAt(), await overviewAt()], ['e-2', 'e-2']);
});

test('problems: drift, suspects, calls in doubt and overdue, withheld addresses', async context => {
  const { store, advance, problems } = context;
  await store.beat('server-1', false);
  for (const last of [6, 7, 8, 9]) await makeReady(store, last);
  for (const [last, holder] of [
    [6, 'web'],
    [7, 'web'],
    [8, 'db'],
  ] as const) {
    advance(1000);
    await make(store, last, 'claim', { holder });
  }
  await make(store, 8, 'missed');
  await make(store, 10, 'assign', { iface: ENI });
  const { generation } = await make(store, 9, 'strayed');
  await noteSightings(store, [
    sightingWith(9, { generation, usedSince: 1, usedReadings: 2, finding: 'nginx of web' }),
  ]);
  await make(store, 11, 'assign', { iface: ENI });
  advance(21_000);
  const found = await problems();
  assert.equal(found.drift, ['10.0.1.8 of db is held, but missing from its ENI']);
  assert.match(found.suspect?.[0] ?? '', /^10\.0\.1\.6 of web is held, but perhaps without a container/);
  assert.is(found.suspect?.length, 1);
  assert.equal(found.withheld, ['10.0.1.9 is in use on its host, but nobody holds it: nginx of web']);
  assert.equal(found['in doubt'], [
    'the call to assign 10.0.1.10 has no answer',
    'the call to assign 10.0.1.11 has no answer',
  ]);
  await store.beat('server-1', true);
  advance(930_000);
  const later = await problems();
  assert.equal(later.overdue?.length, 2);
  assert.is(later['in doubt'], undefined);
});

test('problems: a server and hosts that went away, and a host whose leaks are not found', async context => {
  const { store, advance, problems } = context;
  for (const last of [6, 7]) await makeReady(store, last);
  await store.beat('server-1', false);
  await store.beat('server-2', true);
  await store.enrolHost('i-0a' as InstanceId, 3_600_000);
  await store.noteSeen(['i-0a' as InstanceId]);
  await noteSightings(store, []);
  assert.equal(await problems(), {});
  advance(6 * MINUTE_MS);
  const found = await problems();
  assert.equal(found.server, ['server server-1 ended without a stop, or cannot reach the ledger']);
  assert.equal(found.host, ['i-0a is not connected']);
  await store.noteSeen(['i-0a' as InstanceId]);
  assert.equal((await problems()).host, ['i-0a was not read: its leaks are not found']);
  advance(60 * MINUTE_MS);
  assert.is((await problems()).server, undefined);
});

test('problems: of many servers that died those are asked for that were seen last', async () => {
  const servers = Array.from({ length: 300 }, (_, i) => ({ id: `server-${i}`, seenAt: i, stoppedAt: null }));
  let asked: readonly { id: string }[] = [];
  const found = await ofHolders({
    servers: async () => ({ now: MINUTE_MS, rows: servers }) as never,
    async doubtful(by) {
      asked = by;
      return { now: MINUTE_MS, rows: [] };
    },
  });
  assert.equal([found, asked.length, asked.at(-1)?.id], [[], 100, 'server-200']);
});

test('problems: no host is missed that cannot be read any more, or need not be', async context => {
  const { store, advance, problems } = context;
  const host = 'i-0a' as InstanceId;
  await noteSightings(store, []);
  await store.beginReading('', 'ticket');
  const [own] = (await store.witnesses()).rows.filter(({ instance }) => instance === '');
  assert.ok(own !== undefined && (await store.saveReading(own, [], [])));
  advance(6 * MINUTE_MS);
  assert.equal((await problems()).host, [
    'i-0a was not read: its leaks are not found',
    'this host was not read: its leaks are not found',
  ]);
  // A central server has the hosts now.
  await store.enrolHost(host, 3_600_000);
  assert.equal((await problems()).host, ['i-0a was not read: its leaks are not found']);
  advance(61 * MINUTE_MS);
  assert.is((await problems()).host, undefined);
  await store.enrolHost(host, 24 * 3_600_000);
  assert.is((await problems()).host?.length, 1);
  await store.saveEnis([eniWith({ instance: null })]);
  assert.is((await problems()).host, undefined);
  await store.saveEnis([eniWith()]);
  await store.revokeHost(host);
  assert.is((await problems()).host, undefined);
});

test('problems: EC2 throttles, and a pool that cannot be kept warm, with the reason', async context => {
  const { store, advance, told, problems } = context;
  told.ec2Called?.('AssignPrivateIpAddresses', 'ec2-throttled', 20);
  await makeReady(store, 6);
  assert.equal(Object.keys(await problems()), ['throttled']); // it may still be refilled
  advance(31_000);
  const pool = async () => (await problems()).pool;
  assert.equal(await pool(), [
    `${ENI} has 1 ready addresses and should have 2: EC2's last answer was ec2-throttled`,
  ]);
  for (const last of range(7, 7)) await make(store, last, 'hold', { reservedFor: 'x' });
  told.ec2Called?.('AssignPrivateIpAddresses', 'ok', 20);
  assert.equal(await pool(), [
    `${ENI} has 1 ready addresses and should have 2: the subnet has no free address`,
  ]);
  await make(store, 6, 'claim');
  await store.saveEnis([eniWith({ addressLimit: 2 })]);
  advance(31_000);
  assert.equal(await pool(), [`${ENI} has 0 ready addresses and should have 2: its limit of 2 is reached`]);
  advance(15 * MINUTE_MS);
  assert.is((await problems()).throttled, undefined);
});

test('problems: the addresses of a prefix take one place of the limit, and those that are gone none', async context => {
  const { store, advance, problems } = context;
  const occupied = (last: number) => newRow(last, { status: 'occupied', iface: ENI });
  await store.saveEnis([eniWith({ addressLimit: 4, prefixes: 1 })]);
  await store.add(range(16, 16).map(occupied));
  await makeReady(store, 6);
  advance(31_000);
  const pool = async () => (await problems()).pool;
  // Of three places one is the prefix's, one is taken.
  assert.equal(await pool(), [`${ENI} has 1 ready addresses and should have 2: the log says why`]);
  await store.add([occupied(14)]);
  advance(31_000);
  assert.is(await pool(), undefined); // nothing more can be had
  await make(store, 14, 'unseen');
  advance(31_000);
  assert.is((await pool())?.length, 1);
});

test('problems: what costs a scan of all rows is asked for every five seconds', async ({
  store,
  viewsOf,
  advance,
}) => {
  let scans = 0;
  const counted: Store = {
    ...store,
    lowPools: (...given) => {
      scans += 1;
      return store.lowPools(...given);
    },
  };
  const views = viewsOf(counted);
  for (let second = 0; second < 10; second += 1) {
    await views.overview();
    advance(1000);
  }
  assert.is(scans, 2);
});

const LARGE = parseCidr('10.0.0.0/22');
async function enlarge(store: Store, cidr: Cidr = LARGE): Promise<void> {
  await store.saveSubnet({ id: SUBNET, vpc: 'vpc-0a', cidr });
}

test('many maps at once: a turn of the event loop has one of their blocks', async ({ store, viewsOf }) => {
  const steps: string[] = [];
  const views = viewsOf({
    ...store,
    inRange: (...given) => {
      steps.push('block');
      return store.inRange(...given);
    },
  });
  const maps = () => Promise.all(range(10).map(() => views.subnet(SUBNET, null)));
  await inTurns(maps, () => steps.push('turn'));
  assert.is(steps.filter(step => step === 'block').length, 10);
  assert.not.match(steps.join(' '), 'block block');
});

test('the map: has a cell for each address of a block, bars for a larger subnet', async ({
  store,
  views,
}) => {
  await makeReady(store, 6);
  await make(store, 6, 'claim', { instance: 'i-0b' as InstanceId });
  const { generation } = await make(store, 6, 'missed');
  await noteSightings(store, [sightingWith(6, { generation, name: 'web' })]);
  const small = v.parse(SubnetMap, await views.subnet(SUBNET, null));
  assert.equal([small.block, small.cells.length, small.bars], ['10.0.1.0/24', 14, []]);
  const cell = small.cells.find(one => one.address === ip(6));
  assert.equal([cell?.status, cell?.container, cell?.instance, cell?.eni], ['allocated', 'web', 'i-0b', ENI]);
  assert.equal(small.enis, [{ id: ENI, instance: 'i-0a', tenant: null, ours: true }]);

  await enlarge(store);
  const part = v.parse(SubnetMap, await views.subnet(SUBNET, '10.0.1.0/28'));
  assert.equal([part.block, part.cells.length], ['10.0.1.0/28', 13]);
});

test('the map of a large subnet: counts each /24', async ({ store, views }) => {
  await enlarge(store);
  await store.add(newRows(256, 257));
  await make(store, 256, 'hold', { reservedFor: 'x' });
  const { block, cells, bars } = v.parse(SubnetMap, await views.subnet(SUBNET, null));
  assert.equal([block, cells], [null, []]);
  assert.equal(
    bars.map(({ cidr, counts, reservedByOperators }) => [
      cidr,
      counts.free,
      counts.reserved,
      reservedByOperators,
    ]),
    [
      ['10.0.1.0/24', 8, 5, 0],
      ['10.0.2.0/24', 1, 1, 1],
    ],
  );
});

test('an ENI: its limit, marks, addresses and calls', async ({ store, views, advance }) => {
  for (const last of [6, 7, 8]) await makeReady(store, last);
  advance(1000);
  await make(store, 6, 'claim');
  await make(store, 6, 'release');
  const assigned = { ec2: { id: 'call-1' }, iface: ENI };
  const [row] = await store.move([
    { row: (await store.get(SUBNET, [ip(9)])).rows[0] as never, move: 'assign', ...assigned },
  ]);
  await store.move([{ row: row as never, move: 'assigned', ec2: { id: 'call-1', result: 'done' } }]);
  const eni = v.parse(EniView, await views.eni(ENI));
  assert.equal([eni.limit, eni.room, eni.marks], [10, 5, { low: 2, high: 6 }]);
  assert.equal([eni.usable, eni.resting, eni.addresses.length], [3, 1, 5]);
  assert.equal(eni.moves[0]?.since, eni.now);
  assert.equal(
    eni.calls.map(({ action, addresses, result }) => [action, addresses, result]),
    [['assign', [ip(9)], 'done']],
  );
  assert.is(await views.eni(OTHER_ENI), null);
});

test('an address: who had it', async ({ store, views }) => {
  await makeReady(store, 6);
  await make(store, 6, 'claim', { holder: 'web' });
  const found = v.parse(AddressView, await views.address(ip(6), null));
  assert.equal([found.cell.container, found.isAws, found.instance], ['web', false, 'i-0a']);
  assert.equal(
    found.holdings.map(({ container, isHeld }) => [container, isHeld]),
    [['web', true]],
  );
  assert.is((await views.address(ip(1), SUBNET))?.isAws, true);
  assert.is(await views.address(ip(77), null), null);
  assert.is(await views.address('10.9.9.9', null), null);
  await store.saveSubnet({ id: OTHER_SUBNET, vpc: 'vpc-0b', cidr: parseCidr('10.0.1.0/24') });
});

test('an address and its ENI: say the id of each container once it is known', async context => {
  const { store, views, advance } = context;
  advance(1000);
  await makeReady(store, 6);
  const ids = ['c0ffee'.padEnd(64, '0'), 'deadbeef'.padEnd(64, '0')];
  const known = async () => {
    advance(2000); // a view is kept for a second
    const { cell, holdings } = v.parse(AddressView, await views.address(ip(6), null));
    const { addresses, moves } = v.parse(EniView, await views.eni(ENI));
    const onEni = addresses.find(one => one.address === ip(6))?.containerId;
    assert.equal([onEni, moves[0]?.containerId], [cell.containerId, cell.containerId]);
    return [cell.containerId, holdings.map(({ containerId }) => containerId)];
  };
  for (const [i, id] of ids.entries()) {
    const row = await make(store, 6, 'claim');
    const before = ids.slice(0, i).toReversed();
    assert.equal(await known(), [null, [null, ...before]]);
    await store.noteContainers([{ row, id }]);
    assert.equal(await known(), [id, [id, ...before]]);
    await make(store, 6, 'release');
    assert.equal(await known(), [null, [id, ...before]]);
  }
});

test('an address: its calls are not those of another subnet with the same addresses', async ({
  store,
  views,
}) => {
  const gone = 'eni-0123456789abcdef9' as EniId;
  await store.saveSubnet({ id: OTHER_SUBNET, vpc: 'vpc-0b', cidr: parseCidr('10.0.1.0/24') });
  await store.saveEnis([eniWith({ id: OTHER_ENI, subnet: OTHER_SUBNET, instance: 'i-0b' as InstanceId })]);
  await store.add([newRow(6, { subnet: OTHER_SUBNET })]);
  for (const [row, id, iface] of [
    [await one(store, 6), 'call-1', ENI],
    [await one(store, 6, OTHER_SUBNET), 'call-2', OTHER_ENI],
  ] as const)
    await store.move([{ row, move: 'assign', ec2: { id }, iface }]);
  const callsIn = async (subnet: string) => (await views.address(ip(6), subnet))?.calls.map(({ eni }) => eni);
  assert.equal([await callsIn(SUBNET), await callsIn(OTHER_SUBNET)], [[ENI], [OTHER_ENI]]);
  // Of an ENI that the ledger does not know any more it may be either's.
  await store.add([newRow(7, { subnet: OTHER_SUBNET })]);
  await store.move([{ row: await one(store, 7), move: 'assign', ec2: { id: 'call-3' }, iface: gone }]);
  for (const subnet of [SUBNET, OTHER_SUBNET])
    assert.equal(
      (await views.address(ip(7), subnet))?.calls.map(({ eni }) => eni),
      [gone],
    );
});

test('hosts: certificates, agents, readings, tenants and their quotas', async ({ store, views }) => {
  await store.enrolHost('i-0a' as InstanceId, 3_600_000);
  await store.saveEnis([eniWith({ tenant: 'red' })]);
  await store.saveTenant({ name: 'red', quota: 5, profile: null });
  await noteSightings(store, []);
  await store.beginReading('', 'ticket');
  const { hosts, tenants } = v.parse(HostsView, await views.hosts());
  assert.equal(
    hosts.map(({ instance, state, tenants: own, enis }) => [instance, state, own, enis]),
    [
      ['', 'embedded', [], []],
      ['i-0a', 'enrolled', ['red'], [ENI]],
    ],
  );
  assert.equal(tenants, [{ name: 'red', quota: 5, profile: null, used: 0 }]);
});

test('health: what this server has seen lately, and what the ledger says', async context => {
  const { store, views, told, advance } = context;
  await store.beat('server-0', false); // of the release before
  await store.beat('server-1', false, '1.2.3');
  await make(store, 6, 'assign', { iface: ENI });
  told.tokens?.('AssignPrivateIpAddresses', () => 41.7);
  for (const ms of [10, 20, 30]) told.ec2Called?.('AssignPrivateIpAddresses', 'ok', ms);
  told.answered?.('/IpamDriver.RequestAddress', 'exhausted', 5);
  told.answered?.('/x', 'ok', 5);
  told.committed?.([], 4);
  told.warm?.('hit');
  told.reconciled?.(SUBNET);
  advance(5000);
  const health = v.parse(HealthView, await views.health());
  assert.equal(health.ec2.actions, [
    {
      ...{ action: 'AssignPrivateIpAddresses', tokens: 41, throttled: 0, failed: 0 },
      took: { count: 3, p50Ms: 20, p99Ms: 30 },
    },
  ]);
  assert.equal(
    health.requests.map(({ method, failed }) => [method, failed]),
    [
      ['RequestAddress', 1],
      ['other', 0],
    ],
  );
  assert.equal(
    health.servers.map(({ id, version, state, isThis }) => [id, version, state, isThis]),
    [
      ['server-0', null, 'running', false],
      ['server-1', '1.2.3', 'running', true],
    ],
  );
  assert.equal(health.intents, { sent: 1, inDoubt: 0, overdue: 0, oldestMs: 5000 });
  assert.equal(health.reconciled, [{ subnet: SUBNET, at: health.now - 5000 }]);
  assert.equal([health.warm.hits, health.store.movesPerCommit, health.version], [1, 0, '1.2.3']);
  advance(15 * MINUTE_MS);
  assert.equal((await views.health()).ec2.actions[0]?.took, { count: 0, p50Ms: null, p99Ms: null });
});

test('the search: finds addresses, ENIs, instances, containers and subnets', async ({ store, views }) => {
  await makeReady(store, 6);
  await make(store, 6, 'claim', { holder: 'web-1' });
  const kinds = async (query: string) =>
    v.parse(SearchView, await views.search(query)).found.map(({ kind, name }) => `${kind} ${name}`);
  assert.equal(await kinds(` ${ip(6)} `), [`address ${ip(6)}`]);
  assert.equal(await kinds(ENI), [`eni ${ENI}`]);
  assert.equal(await kinds('i-0a'), ['instance i-0a']);
  assert.equal(await kinds('web'), ['container web-1']);
  const id = 'c0ffee'.padEnd(64, '0');
  await store.noteContainers([{ row: await one(store, 6), id }]);
  for (const text of ['c0ff', id.slice(0, 12), id])
    assert.equal(await kinds(text), ['container web-1'], text);
  await makeReady(store, 7);
  await make(store, 7, 'claim');
  await store.noteContainers([{ row: await one(store, 7), id: 'deadbeef'.padEnd(64, '0') }]);
  assert.equal(await kinds('deadbeef'), [`container ${'deadbeef'.padEnd(64, '0')}`]);
  assert.equal(await kinds(SUBNET), [`subnet ${SUBNET}`]);
  assert.equal(await kinds('10.0.1.77'), []);
});

const wrong: [what: string, ask: (views: Views) => Promise<unknown>, says: RegExp][] = [
  ['an empty query', views => views.search(' '), /query is empty or too long/],
  ['no subnet id', views => views.subnet('x', null), /subnet/],
  ['a block that is too large', views => views.subnet(SUBNET, '10.0.0.0/23'), /at most a \/24/],
  ['a block of another subnet', views => views.subnet(SUBNET, '10.0.2.0/24'), /not a part of/],
  ['a block with host bits', views => views.subnet(SUBNET, '10.0.1.1/24'), /host bits/],
  ['no address', views => views.address('10.0.1', null), /not an IPv4 address/],
  ['no ENI id', views => views.eni('x'), /ENI/],
];
for (const [what, ask, says] of wrong)
  test(`${what}: is refused with a reason`, async ({ views }) => {
    const error = await ask(views).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    assert.ok(isError(error, 'bad-request'));
    assert.match((error as { line?: string }).line ?? '', says);
  });
test.run();
