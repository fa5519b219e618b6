// Goal: every store does what the memory store does. Method: one suite, run on each; what a move does to a
// row is compared with the domain's `moved`, for every move of the table.
import { fromNumber, type Ipv4, numberOf, parseCidr, spreadOf } from '../../src/domain/address.ts';
import {
  type Allocation,
  type Change,
  LATE_READS_MS,
  MOVES,
  type MoveName,
  moved,
  type Rest,
  ruleOf,
  SKIPPED_FOR_MS,
  type Status,
} from '../../src/domain/allocation.ts';
import { isError } from '../../src/domain/error.ts';
import {
  type EniId,
  type InstanceId,
  parseEniId,
  parseSubnetId,
  type SubnetId,
} from '../../src/domain/ids.ts';
import { UNANSWERED_MAX_MS } from '../../src/domain/suspects.ts';
import {
  CHANGES_MAX,
  type FreeQuery,
  type LedgerEni,
  SERVER_KEPT_MS,
  type Store,
  type TurnQuery,
} from '../../src/store/store.ts';
import { assert, suite } from '../kit/uvu.ts';

export interface Opened {
  readonly store: Store;
  /** Sets the store's clock forward. */
  advance(ms: number): void;
  close(): Promise<void>;
}

export const SUBNET = parseSubnetId('subnet-0a');
const OTHER_SUBNET = parseSubnetId('subnet-0b');
export const ENI = parseEniId('eni-0a');
export const OTHER_ENI = parseEniId('eni-0b');
const VPC = 'vpc-0a';
const REST: Rest = { cooldownMs: 30_000, quarantineMs: 600_000, graceMs: 930_000 };
const GIVEN = { iface: OTHER_ENI, primary: true, holder: 'web-1', refused: true, unsure: true } as const;

export const ip = (last: number): Ipv4 => fromNumber(numberOf('10.0.1.0' as Ipv4) + last);
export const row = (
  last: number,
  status: 'free' | 'occupied' | 'reserved' = 'free',
  iface: EniId | null = null,
) => ({
  subnet: SUBNET,
  ip: ip(last),
  status,
  iface,
  primary: false,
});
const ips = (rows: readonly Allocation[]): string[] => rows.map(one => one.ip);

export async function one(store: Store, address: Ipv4, subnet: SubnetId = SUBNET): Promise<Allocation> {
  const [found] = (await store.get(subnet, [address])).rows;
  if (found === undefined) throw new Error(`${address} is not in the ledger`);
  return found;
}

/** The moves that lead from a fresh row to the status. */
const PATHS: Record<Status, readonly MoveName[]> = {
  free: [],
  reserved: ['reserve'],
  occupied: ['foreign'],
  assigning: ['assign'],
  ready: ['assign', 'assigned'],
  allocated: ['assign', 'assigned', 'claim'],
  unassigning: ['assign', 'assigned', 'unassign'],
};

/** Makes one move of the row as it is; fails unless it was made. */
export async function make(store: Store, address: Ipv4, move: MoveName, given: Partial<Change> = {}) {
  const [after] = await store.move([{ row: await one(store, address), move, ...given }]);
  if (after === undefined) throw new Error(`${move} of ${address} was not made`);
  return after;
}
const onEni = (eni: EniId) => ({ iface: eni });

/** Puts free rows on the ENI, as a call of ours does that EC2 has granted. */
export async function putOn(store: Store, rows: readonly Allocation[], eni: EniId): Promise<Allocation[]> {
  const assigning = await store.move(rows.map(free => ({ row: free, move: 'assign', iface: eni })));
  return store.move(assigning.map(intent => ({ row: intent, move: 'assigned' })));
}
/** Puts one free row on the ENI; fails unless it is ready then. */
export async function makeReady(store: Store, address: Ipv4, eni: EniId): Promise<Allocation> {
  await make(store, address, 'assign', onEni(eni));
  return make(store, address, 'assigned');
}

export function contract(name: string, open: () => Promise<Opened>): void {
  const test = suite<Opened>(`store: ${name}`);
  test.before.each(async context => {
    Object.assign(context, await open());
    await context.store.migrate();
  });
  test.after.each(context => context.close());

  theSchema(test);
  everyMove(test);
  compareAndSet(test);
  adding(test);
  reading(test);
  choosingFree(test);
  theRest(test);
  test.run();
}
type Test = ReturnType<typeof suite<Opened>>;

function theSchema(test: Test): void {
  test('a migrated store is not outdated, and migrating again changes nothing', async ({ store }) => {
    await store.add([row(10)]);
    await store.migrate();
    assert.is(await store.outdated(), null);
    assert.is((await one(store, ip(10))).status, 'free');
  });
}

function everyMove(test: Test): void {
  for (const move of Object.keys(MOVES) as MoveName[]) {
    const { from } = ruleOf(move);
    test(`${move}: does what the domain says, with and without given values`, async ({ store, advance }) => {
      for (const [last, given] of [
        [10, GIVEN],
        [11, {}],
      ] as const) {
        const before = await marked(store, ip(last), from, advance);
        advance(1_000);
        const change: Change = { row: before, move, ...given };
        const [after] = await store.move([change]);
        assert.ok(after, 'the move was not made');
        const at = ruleOf(move).goesOn ? (after.missingSince ?? after.placedAt ?? 0) : after.movedAt;
        assert.equal(after, moved(before, change, at, after.token ?? ''));
        assert.ok(at >= before.movedAt + 1_000, 'moved at the time of the move');
        assert.is.not(after.token, before.token);
        assert.is(after.token?.length, 36);
        assert.equal(await one(store, ip(last)), after, 'what was answered is what was written');
      }
    });
  }

  test('a mark that is set is not set anew', async ({ store, advance }) => {
    await marked(store, ip(10), 'allocated', advance);
    const first = await make(store, ip(10), 'missed');
    advance(5_000);
    assert.is((await make(store, ip(10), 'missed')).missingSince, first.missingSince);
    assert.is((await make(store, ip(10), 'found')).missingSince, null);
  });
}

/** A row in the status whose other columns are as full as moves can make them, so that every effect shows. */
async function marked(store: Store, address: Ipv4, status: Status, advance: Opened['advance']) {
  await store.add([{ ...row(0), ip: address }]);
  const step = (move: MoveName, given: Partial<Change> = {}) => {
    advance(1_000);
    return make(store, address, move, given);
  };
  await step('assign', onEni(ENI));
  await step('assigned');
  await step('unassign');
  await step('unassigned'); // leftIface, leftAt
  await step('assign', onEni(ENI));
  await step('taken', { ...onEni(OTHER_ENI), refused: true }); // refusedAt
  await step('unseen'); // absentSince
  if (status === 'occupied') return one(store, address);
  await step('vacated'); // restedSince, restedFrom
  for (const move of PATHS[status]) await step(move, { ...onEni(ENI), holder: 'db-1' });
  return status === 'allocated' ? step('missed') : one(store, address);
}

function compareAndSet(test: Test): void {
  const stale: [what: string, patch: Partial<Allocation>][] = [
    ['subnet', { subnet: OTHER_SUBNET }],
    ['address', { ip: ip(11) }],
    ['status', { status: 'free' }],
    ['ENI', { iface: OTHER_ENI }],
    ['lack of an ENI', { iface: null }],
    ['generation', { generation: 7 }],
  ];
  for (const [what, patch] of stale)
    test(`a move of a row that has another ${what} is a "no" and changes nothing`, async ({ store }) => {
      await store.add([row(10)]);
      const before = await makeReady(store, ip(10), ENI);
      const move = patch.status === 'free' ? 'foreign' : 'claim';
      assert.equal(await store.move([{ row: { ...before, ...patch }, move }]), []);
      assert.equal(await one(store, ip(10)), before);
    });

  test('a move that does not start at the row’s status is a "no"', async ({ store }) => {
    await store.add([row(10)]);
    assert.equal(await store.move([{ row: await one(store, ip(10)), move: 'claim' }]), []);
  });

  test('of two claims of one row at once, one wins', async ({ store }) => {
    await store.add([row(10)]);
    const ready = await makeReady(store, ip(10), ENI);
    const answers = await Promise.all(
      ['a', 'b', 'c', 'd'].map(holder => store.move([{ row: ready, move: 'claim', holder }])),
    );
    assert.is(answers.flat().length, 1);
    assert.equal(answers.flat()[0], await one(store, ip(10)));
  });

  test('a row named twice in one move moves once, by the first change', async ({ store }) => {
    await store.add([row(10)]);
    const ready = await makeReady(store, ip(10), ENI);
    const [after, ...more] = await store.move([
      { row: ready, move: 'claim', holder: 'first' },
      { row: ready, move: 'unassign' },
    ]);
    assert.equal([after?.status, after?.holder, more.length], ['allocated', 'first', 0]);
  });

  test('many changes of many kinds: each row its own values, one token, answered in the order asked', async ({
    store,
  }) => {
    const lasts = Array.from({ length: 40 }, (_, i) => 200 - i);
    await store.add(lasts.map(last => row(last)));
    const rows = await Promise.all(lasts.map(last => one(store, ip(last))));
    const changes = rows.map((state, i): Change => {
      if (i % 4 === 0) return { row: state, move: 'reserve' };
      if (i % 4 === 1) return { row: state, move: 'assign', iface: i % 8 === 1 ? ENI : OTHER_ENI };
      if (i % 4 === 2) return { row: { ...state, generation: 9 }, move: 'reserve' };
      return { row: state, move: 'foreign', iface: i % 8 === 3 ? ENI : null, primary: i % 8 === 3 };
    });
    const after = await store.move(changes);
    const expected = changes.flatMap((change, i) => {
      const before = rows[i];
      return before === undefined
        ? []
        : (moved(before, change, after[0]?.movedAt ?? 0, after[0]?.token ?? '') ?? []);
    });
    assert.is(after.length, 30);
    assert.equal(after, expected);
  });

  test('rows of two subnets that have one address get each its own values, in one move', async ({
    store,
  }) => {
    await store.add([row(10), { ...row(10), subnet: OTHER_SUBNET }, row(11)]);
    const places = [
      [SUBNET, 10],
      [OTHER_SUBNET, 10],
      [SUBNET, 11],
    ] as const;
    const rows = await Promise.all(places.map(([subnet, last]) => one(store, ip(last), subnet)));
    const assigning = await store.move(
      rows.map((state, i) => ({ row: state, move: 'assign', iface: i === 1 ? OTHER_ENI : ENI })),
    );
    const ready = await store.move(assigning.map(state => ({ row: state, move: 'assigned' })));
    const stale = ready.map((state, i) => (i === 2 ? { ...state, iface: OTHER_ENI } : state));
    const held = await store.move(
      stale.map((state, i) => ({ row: state, move: 'claim', holder: ['a', null, 'c'][i] ?? null })),
    );
    assert.equal(
      held.map(({ subnet, iface, holder }) => [subnet, iface, holder]),
      [
        [SUBNET, ENI, 'a'],
        [OTHER_SUBNET, OTHER_ENI, null],
      ],
    );
  });

  test(`a move takes ${CHANGES_MAX} changes, and not one more`, async ({ store }) => {
    const lasts = Array.from({ length: CHANGES_MAX + 1 }, (_, i) => i);
    await store.add(lasts.map(last => row(last)));
    const { rows } = await store.withStatus(SUBNET, ['free']);
    const changes = rows.map((state): Change => ({ row: state, move: 'foreign', iface: ENI }));
    await store.move(changes).then(
      () => assert.unreachable('one too many was taken'),
      error => assert.ok(isError(error, 'internal'), String(error)),
    );
    const after = await store.move(changes.slice(0, CHANGES_MAX));
    assert.equal(ips(after), ips(rows.slice(0, CHANGES_MAX)));
  });

  test('a holder may have any name, and one too long is cut, not refused', async ({ store }) => {
    const names = ["'; drop table allocation; -- \\' ? \u{1f40b} \"`", 'x'.repeat(300)];
    await store.add([row(10), row(11)]);
    const readied = await Promise.all([10, 11].map(last => makeReady(store, ip(last), ENI)));
    const after = await store.move(
      readied.map((state, i) => ({ row: state, move: 'claim', holder: names[i] ?? '' })),
    );
    assert.equal(
      after.map(one => one.holder),
      [names[0], 'x'.repeat(255)],
    );
  });

  test('no change is no move', async ({ store }) => {
    assert.equal(await store.move([]), []);
  });
}

function adding(test: Test): void {
  test('add leaves present rows as they are and counts the new ones', async ({ store }) => {
    assert.is(await store.add([row(10), row(11, 'reserved')]), 2);
    const before = await makeReady(store, ip(10), ENI);
    assert.is(await store.add([row(10), row(12, 'occupied', ENI), row(11)]), 1);
    assert.equal(await one(store, ip(10)), before);
    assert.is((await one(store, ip(11))).status, 'reserved');
    assert.is(await store.add([]), 0);
  });

  test('a new row is rested, at generation 0, and as it was given', async ({ store }) => {
    const given = { ...row(10, 'occupied', ENI), primary: true };
    await store.add([given]);
    const { movedAt, token, ...rest } = await one(store, ip(10));
    assert.equal(rest, {
      ...given,
      generation: 0,
      restedSince: null,
      restedFrom: null,
      leftIface: null,
      leftAt: null,
      leftUnsure: false,
      placedAt: null,
      missingSince: null,
      absentSince: null,
      refusedAt: null,
      holder: null,
    });
    assert.ok(movedAt > 0 && token?.length === 36);
  });

  test('two subnets may have the same addresses', async ({ store }) => {
    await store.add([row(10), { ...row(10, 'occupied', OTHER_ENI), subnet: OTHER_SUBNET }]);
    await make(store, ip(10), 'reserve');
    assert.is((await one(store, ip(10))).status, 'reserved');
    assert.is((await one(store, ip(10), OTHER_SUBNET)).status, 'occupied');
    assert.equal((await store.tally()).map(one => `${one.subnet} ${one.status} ${one.count}`).sort(), [
      'subnet-0a reserved 1',
      'subnet-0b occupied 1',
    ]);
  });

  test('a row among many neighbours is as it was given, and one that is there stays', async ({ store }) => {
    await store.add([row(30)]);
    const there = await makeReady(store, ip(30), ENI);
    const lasts = [...Array.from({ length: 60 }, (_, i) => i + 1), 100, 102];
    const statusOf = (last: number) => (last < 5 ? 'reserved' : last % 7 === 0 ? 'occupied' : 'free');
    const given = lasts.map(last => ({
      ...row(last, statusOf(last), last === 40 ? ENI : last % 7 === 0 ? OTHER_ENI : null),
      primary: last % 14 === 0,
    }));
    assert.is(await store.add(given), lasts.length - 1);
    const { rows } = await store.get(SUBNET, lasts.map(ip));
    const found = rows
      .toSorted((a, b) => numberOf(a.ip) - numberOf(b.ip))
      .map(({ subnet, ip, status, iface, primary }) => ({ subnet, ip, status, iface, primary }));
    const { subnet, status, iface, primary } = there;
    assert.equal(
      found,
      given.map(one => (one.ip === there.ip ? { subnet, ip: there.ip, status, iface, primary } : one)),
    );
    assert.equal(await one(store, ip(30)), there);
  });

  test('rows in any order and number are added once', async ({ store }) => {
    const many = Array.from({ length: 5_000 }, (_, i) => row((i * 7919) % 5_000));
    assert.is(await store.add(many), 5_000);
    assert.is(await store.add(many), 0);
    assert.equal(await store.tally(), [{ subnet: SUBNET, status: 'free', count: 5_000 }]);
  });
}

function reading(test: Test): void {
  test('get answers what is there, and the store’s time', async ({ store, advance }) => {
    await store.add([row(10), row(11)]);
    const before = (await store.get(SUBNET, [])).now;
    advance(60_000);
    const { now, rows } = await store.get(SUBNET, [ip(11), ip(10), ip(99)]);
    assert.equal(ips(rows).sort(), [ip(10), ip(11)]);
    assert.ok(now >= before + 60_000);
  });

  test('onEni lists every row that names the ENI, in the order of addresses', async ({ store }) => {
    await store.add([row(100, 'occupied', ENI), row(20), row(3, 'occupied', OTHER_ENI), row(21)]);
    await makeReady(store, ip(20), ENI);
    assert.equal(ips((await store.onEni(ENI)).rows), [ip(20), ip(100)]);
  });

  test('readyOn: never given up first, by address; then the longest-rested; no primary, nothing else', async ({
    store,
    advance,
  }) => {
    await store.add([9, 100, 20, 30, 40, 50, 60].map(last => row(last)));
    for (const last of [100, 9, 20, 30, 40]) await makeReady(store, ip(last), ENI);
    await makeReady(store, ip(50), OTHER_ENI);
    await make(store, ip(60), 'assign', onEni(ENI));
    for (const last of [30, 20]) {
      advance(1_000);
      await make(store, ip(last), 'claim');
      await make(store, ip(last), 'release');
    }
    await make(store, ip(40), 'claim');
    const order = [ip(9), ip(100), ip(30), ip(20)];
    assert.equal(ips((await store.readyOn(ENI, null, 10)).rows), order);
    assert.equal(ips((await store.readyOn(ENI, null, 3)).rows), order.slice(0, 3));
    assert.equal(ips((await store.readyOn(ENI, parseCidr('10.0.1.16/28'), 10)).rows), [ip(30), ip(20)]);
    await make(store, ip(9), 'usurped', { iface: ENI, primary: true });
    assert.equal(ips((await store.readyOn(ENI, null, 10)).rows), order.slice(1));
  });

  test('intents: the oldest first, none that is younger', async ({ store, advance }) => {
    await store.add([10, 11, 12, 13].map(last => row(last)));
    await make(store, ip(12), 'assign', onEni(ENI));
    await makeReady(store, ip(11), ENI);
    advance(10_000);
    await make(store, ip(11), 'unassign');
    advance(10_000);
    await make(store, ip(10), 'assign', onEni(ENI));
    assert.equal(ips((await store.intents(0, 10)).rows), [ip(12), ip(11), ip(10)]);
    assert.equal(ips((await store.intents(0, 2)).rows), [ip(12), ip(11)]);
    assert.equal(ips((await store.intents(10_000, 10)).rows), [ip(12), ip(11)]);
    assert.equal(ips((await store.intents(15_000, 10)).rows), [ip(12)]);
    await make(store, ip(12), 'take over');
    assert.equal(ips((await store.intents(15_000, 10)).rows), []);
  });

  test('withStatus lists the rows of one subnet that have one of the statuses, by the value of the address', async ({
    store,
  }) => {
    await store.add([
      row(100, 'reserved'),
      row(9, 'occupied'),
      row(20),
      { ...row(10), subnet: OTHER_SUBNET },
    ]);
    assert.equal(ips((await store.withStatus(SUBNET, ['reserved', 'occupied'])).rows), [ip(9), ip(100)]);
    assert.equal(ips((await store.withStatus(SUBNET, ['free'])).rows), [ip(20)]);
    assert.equal(ips((await store.withStatus(SUBNET, [])).rows), []);
  });
}

function choosingFree(test: Test): void {
  const query = (patch: Partial<FreeQuery> = {}): FreeQuery => ({
    subnet: SUBNET,
    eni: ENI,
    range: null,
    rest: REST,
    which: 'rested',
    limit: 100,
    ...patch,
  });
  const free = async (store: Store, patch: Partial<FreeQuery> = {}) =>
    ips((await store.freeFor(query(patch))).rows);
  /** Puts it on the ENI, gives it up there, and takes it off again. */
  const giveUp = async (store: Store, last: number, eni: EniId, unsure = false) => {
    await makeReady(store, ip(last), eni);
    await make(store, ip(last), 'claim');
    await make(store, ip(last), 'release');
    await make(store, ip(last), 'unassign');
    await make(store, ip(last), 'unassigned', { unsure });
  };

  test('freeFor: rows that never rested come from hash(ENI) onward along spread, and wrap around', async ({
    store,
  }) => {
    const lasts = Array.from({ length: 60 }, (_, i) => i + 4);
    await store.add([
      ...lasts.map(last => row(last)),
      row(3, 'reserved'),
      { ...row(70), subnet: OTHER_SUBNET },
    ]);
    for (const eni of [ENI, OTHER_ENI, parseEniId('eni-0c1')]) {
      const order = lasts.map(ip).sort((a, b) => spreadOf(a) - spreadOf(b));
      const start = order.findIndex(one => spreadOf(one) >= spreadOf(eni));
      assert.ok(start > 0, 'this ENI shows no wrap-around');
      const turned = [...order.slice(start), ...order.slice(0, start)];
      assert.equal(await free(store, { eni }), turned);
      assert.equal(await free(store, { eni, limit: 5 }), turned.slice(0, 5));
    }
    const few = await free(store, { range: parseCidr('10.0.1.16/29') });
    assert.equal(few.slice().sort(), [16, 17, 18, 19, 20, 21, 22, 23].map(ip).sort());
  });

  test('freeFor: the one ENI waits for the cooldown, others for the quarantine', async ({
    store,
    advance,
  }) => {
    await store.add([row(10)]);
    await make(store, ip(10), 'foreign', onEni(ENI));
    await make(store, ip(10), 'vacated'); // rests, and no Unassign of ours took it off
    advance(REST.cooldownMs - 5_000);
    assert.equal(await free(store), []);
    advance(5_000);
    assert.equal(await free(store), [ip(10)]);
    advance(REST.quarantineMs - REST.cooldownMs - 5_000);
    assert.equal(await free(store, { eni: OTHER_ENI }), []);
    advance(5_000);
    assert.equal(await free(store, { eni: OTHER_ENI }), [ip(10)]);
  });

  for (const [what, unsure, awayMs] of [
    ['while reads may be late', false, LATE_READS_MS],
    ['within the grace, if a call for it had no answer', true, REST.graceMs],
  ] as const)
    test(`freeFor: what an Unassign took off does not come back to that ENI ${what}, whichever is asked`, async ({
      store,
      advance,
    }) => {
      await store.add([row(10)]);
      await giveUp(store, 10, ENI, unsure);
      advance(awayMs - 5_000);
      for (const which of ['rested', 'any'] as const) assert.equal(await free(store, { which }), []);
      assert.equal(await free(store, { which: 'any', eni: OTHER_ENI }), [ip(10)]);
      advance(5_000);
      for (const which of ['rested', 'any'] as const) assert.equal(await free(store, { which }), [ip(10)]);
    });

  test('freeFor: then the longest-rested; known from a refusal last; those not rested only if asked', async ({
    store,
    advance,
  }) => {
    await store.add([10, 11, 12, 13, 14, 15].map(last => row(last)));
    await make(store, ip(15), 'assign', onEni(OTHER_ENI));
    await make(store, ip(15), 'taken', { refused: true });
    await make(store, ip(15), 'vacated');
    for (const last of [12, 11]) {
      advance(1_000);
      await giveUp(store, last, OTHER_ENI);
    }
    advance(REST.quarantineMs);
    for (const last of [14, 13]) {
      advance(1_000);
      await giveUp(store, last, OTHER_ENI);
    }
    const rested = [ip(10), ip(12), ip(11), ip(15)];
    assert.equal(await free(store), rested);
    assert.equal(await free(store, { which: 'any' }), [...rested, ip(14), ip(13)]);
    assert.equal(await free(store, { which: 'any', limit: 5 }), [...rested, ip(14)]);
    const range = parseCidr('10.0.1.12/30');
    assert.equal(await free(store, { which: 'any', range }), [ip(12), ip(15), ip(14), ip(13)]);
  });

  test('freeFor: one that EC2 refused is skipped for ten minutes, and then comes last, whichever is asked', async ({
    store,
    advance,
  }) => {
    await store.add([10, 11, 12].map(last => row(last)));
    await make(store, ip(11), 'assign', onEni(ENI));
    const skipped = await make(store, ip(11), 'skipped', { refused: true });
    assert.is(skipped.iface, null);
    assert.is(skipped.refusedAt, skipped.movedAt);
    advance(SKIPPED_FOR_MS - 5_000);
    for (const which of ['rested', 'any'] as const)
      for (const eni of [ENI, OTHER_ENI])
        assert.equal((await free(store, { which, eni })).slice().sort(), [ip(10), ip(12)]);
    advance(5_000);
    for (const which of ['rested', 'any'] as const) assert.is((await free(store, { which })).at(-1), ip(11));
    await make(store, ip(11), 'assign', onEni(ENI));
    assert.is((await make(store, ip(11), 'assigned')).refusedAt, null, 'EC2 minds it no more');
  });

  test('freeFor: a rested row of this ENI goes before one of another ENI that rests longer but not long enough', async ({
    store,
    advance,
  }) => {
    await store.add([row(10), row(11)]);
    await make(store, ip(10), 'foreign', onEni(OTHER_ENI));
    await make(store, ip(10), 'vacated');
    advance(1_000);
    await make(store, ip(11), 'foreign', onEni(ENI));
    await make(store, ip(11), 'vacated');
    advance(REST.cooldownMs);
    assert.equal(await free(store, { which: 'any' }), [ip(11), ip(10)]);
  });
}

function theRest(test: Test): void {
  const noted = async (store: Store) =>
    (await store.servers()).rows.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const eni = (id: EniId, patch: Partial<LedgerEni> = {}): LedgerEni => ({
    id,
    subnet: SUBNET,
    primary: ip(5),
    instance: 'i-0a' as InstanceId,
    attachment: 'eni-attach-0a',
    attachmentSeenAt: null,
    earlierAttachment: null,
    claimsEndBefore: null,
    addressLimit: 10,
    prefixes: 0,
    ours: false,
    releasedAt: null,
    ...patch,
  });

  test('subnets are saved and refreshed', async ({ store }) => {
    const cidr = parseCidr('10.0.1.0/24');
    await store.saveSubnet({ id: SUBNET, vpc: 'vpc-0old', cidr });
    await store.saveSubnet({ id: SUBNET, vpc: VPC, cidr });
    assert.equal(await store.subnets(), [{ id: SUBNET, vpc: VPC, cidr }]);
  });

  test('ENIs are saved and refreshed, but whose they are and what is noted of them stay', async ({
    store,
  }) => {
    await store.saveEnis([]);
    await store.saveEnis([
      eni(ENI),
      eni(OTHER_ENI, { instance: null, attachment: null, addressLimit: null }),
    ]);
    await store.adopt(ENI);
    await store.setReleased(ENI, true);
    const before = await store.eni(ENI);
    assert.is.not(before?.releasedAt, null);
    const anew = {
      attachment: 'eni-attach-0b',
      attachmentSeenAt: 2_000_000_000_000,
      earlierAttachment: 'eni-attach-0a',
      claimsEndBefore: 1_900_000_000_000,
      addressLimit: 50,
      prefixes: 1,
    };
    await store.saveEnis([eni(ENI, anew)]);
    assert.equal(await store.eni(ENI), {
      ...eni(ENI, anew),
      ours: true,
      releasedAt: before?.releasedAt,
    });
    assert.equal(await store.eni(parseEniId('eni-0cc')), null);
    const [, other] = (await store.enis()).toSorted((a, b) => (a.id < b.id ? -1 : 1));
    assert.equal(other, eni(OTHER_ENI, { instance: null, attachment: null, addressLimit: null }));
  });

  test('when an attachment was last seen is noted where the ENI still has it, for many at once', async ({
    store,
  }) => {
    const detached = eni(OTHER_ENI, { instance: null, attachment: null });
    const [moved, unknown] = [parseEniId('eni-0cc'), parseEniId('eni-0dd')];
    await store.saveEnis([eni(ENI), detached, eni(moved)]);
    await store.noteAttachments([], 1);
    const seen = [eni(ENI), detached, eni(moved, { attachment: 'eni-attach-0b' }), eni(unknown)];
    await store.noteAttachments(seen, 2_000_000_000_000);
    await store.noteAttachments([eni(ENI)], 1_900_000_000_000);
    const noted = (await store.enis()).toSorted((a, b) => (a.id < b.id ? -1 : 1));
    assert.equal(
      noted.map(one => one.attachmentSeenAt),
      [1_900_000_000_000, 2_000_000_000_000, null],
      'the last one counts, also where the clock has stepped back',
    );
    assert.equal(await store.eni(unknown), null);
  });

  test('adopting an ENI that is not there does nothing', async ({ store }) => {
    await store.adopt(ENI);
    assert.equal(await store.enis(), []);
  });

  test('an ENI is noted as released once, by the store’s clock, until it is used again', async ({
    store,
    advance,
  }) => {
    await store.setReleased(ENI, true);
    assert.is(await store.eni(ENI), null, 'no ENI comes of it');
    await store.saveEnis([eni(ENI), eni(OTHER_ENI)]);
    const { now } = await store.get(SUBNET, []);
    await store.setReleased(ENI, true);
    const at = (await store.eni(ENI))?.releasedAt ?? null;
    assert.ok(at !== null && at >= now && at <= (await store.get(SUBNET, [])).now);
    advance(1_000);
    await store.setReleased(ENI, true);
    assert.is((await store.eni(ENI))?.releasedAt, at, 'it is not noted anew');
    assert.is((await store.eni(OTHER_ENI))?.releasedAt, null);
    await store.setReleased(ENI, false);
    assert.is((await store.eni(ENI))?.releasedAt, null);
    await store.setReleased(ENI, true);
    assert.ok(((await store.eni(ENI))?.releasedAt ?? 0) >= at + 1_000);
  });

  test('a server is seen since its first beat, until it stops, and is forgotten long after', async ({
    store,
    advance,
  }) => {
    const first = await store.beat('a', false);
    advance(5_000);
    await store.beat('b', false);
    const now = await store.beat('a', true);
    const [a, b, ...others] = await noted(store);
    assert.equal(a, { id: 'a', startedAt: first, seenAt: now, stoppedAt: now });
    assert.is(b?.stoppedAt, null);
    assert.ok((b?.startedAt ?? 0) >= first + 5_000);
    assert.equal(others, []);
    await store.beat('a', false);
    assert.is((await noted(store))[0]?.stoppedAt, null);
    advance(SERVER_KEPT_MS + 1_000);
    await store.beat('c', false);
    assert.equal(
      (await noted(store)).map(one => one.id),
      ['c'],
    );
  });

  test('a server that died stays noted while a row is held that it may not have answered', async ({
    store,
    advance,
  }) => {
    await store.add([row(10), row(11)]);
    const held: Allocation[] = [];
    for (const last of [10, 11]) {
      await makeReady(store, ip(last), ENI);
      held.push(await make(store, ip(last), 'claim'));
    }
    const [died, stopped] = held.map(claimed => claimed.token?.slice(0, 8) ?? '');
    const notedBy = async (begins: string) => {
      await store.beat(begins, false);
      return (await noted(store)).map(({ id }) => (id === died ? 'died' : id)).sort();
    };
    await store.beat(died ?? '', false);
    await store.beat(stopped ?? '', true);
    await store.beat('idle', false);
    advance(SERVER_KEPT_MS + 1_000);
    assert.equal(await notedBy('a'), ['a', 'died']);
    await make(store, ip(10), 'release');
    assert.equal(await notedBy('b'), ['a', 'b']);
  });

  test('a server that died stays noted for a row that it claimed shortly before it was last seen, and for no other', async ({
    store,
    advance,
  }) => {
    await store.add([row(10)]);
    await makeReady(store, ip(10), ENI);
    const { token } = await make(store, ip(10), 'claim');
    const died = token?.slice(0, 8) ?? '';
    const notedLater = async (begins: string) => {
      await store.beat(died, false);
      advance(SERVER_KEPT_MS + 1_000);
      await store.beat(begins, false);
      return (await noted(store)).map(({ id }) => (id === died ? 'died' : id)).sort();
    };
    advance(UNANSWERED_MAX_MS - 30_000);
    assert.equal(await notedLater('a'), ['a', 'died']);
    advance(-SERVER_KEPT_MS + 30_000);
    assert.equal(await notedLater('b'), ['a', 'b']);
  });

  test("a lease is one server's until it ends or is renewed, each by its name", async ({
    store,
    advance,
  }) => {
    assert.ok(await store.lease('one', 'a', 10_000));
    assert.not(await store.lease('one', 'b', 10_000));
    assert.ok(await store.lease('two', 'b', 10_000));
    advance(6_000);
    assert.ok(await store.lease('one', 'a', 10_000), 'renewed');
    advance(6_000);
    assert.not(await store.lease('one', 'b', 10_000));
    advance(4_001);
    assert.ok(await store.lease('one', 'b', 10_000), 'after its end');
    assert.not(await store.lease('one', 'a', 10_000));
  });

  test('a lease that was taken before the clock was set back holds nobody up', async ({ store, advance }) => {
    assert.ok(await store.lease('one', 'a', 10_000));
    advance(-60_000);
    assert.ok(await store.lease('one', 'b', 10_000));
    assert.not(await store.lease('one', 'a', 10_000));
  });

  test('of many that want a lease at once, one has it', async ({ store }) => {
    const answers = await Promise.all(['a', 'b', 'c', 'd'].map(server => store.lease('one', server, 10_000)));
    assert.is(answers.filter(Boolean).length, 1);
  });

  const TURN = { name: 'assign', capacity: 3, intervalMs: 2_000, withinMs: 60_000, aheadMs: 600_000 };
  /** In seconds, since the clock of a real database runs on. */
  const inSeconds = (waitMs: number | null): number | null =>
    waitMs === null ? null : Math.ceil(waitMs / 1_000);
  const turnsOf = async (store: Store, count: number, more: Partial<TurnQuery> = {}) => {
    const waits: (number | null)[] = [];
    for (let i = 0; i < count; i++) waits.push(inSeconds(await store.takeTurn({ ...TURN, ...more })));
    return waits;
  };

  test('turns: what the bucket holds at once, the rest one after the other, and none beyond what is asked for', async ({
    store,
    advance,
  }) => {
    assert.equal(await turnsOf(store, 5), [0, 0, 0, 2, 4]);
    assert.equal(await turnsOf(store, 2, { withinMs: 5_000 }), [null, null]);
    assert.equal(await turnsOf(store, 1), [6], 'what was not given was not taken');
    assert.equal(await turnsOf(store, 1, { name: 'unassign' }), [0], 'each bucket for itself');
    advance(4_000);
    assert.equal(await turnsOf(store, 1), [4]);
    advance(3_600_000);
    assert.equal(await turnsOf(store, 4), [0, 0, 0, 2], 'it holds no more than its capacity');
  });

  test('turns: of many who ask at once each has one of its own', async ({ store }) => {
    const waits = await Promise.all(Array.from({ length: 12 }, () => store.takeTurn(TURN)));
    const seconds = waits.map(ms => (ms ?? Number.NaN) / 1_000).sort((a, b) => a - b);
    // A database's clock goes on while they ask.
    for (const [i, due] of [0, 0, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18].entries())
      assert.ok(
        Math.abs((seconds[i] ?? Number.NaN) - due) < 1,
        `turn ${i} after ${seconds[i]} s, not ${due}`,
      );
  });

  test('turns: a throttle empties the bucket and halves its speed, once for those that come together', async ({
    store,
    advance,
  }) => {
    const slow = { ...TURN, intervalMs: 1_000, capacity: 100 };
    assert.is(await store.slowTurns(TURN), 1);
    assert.is(await store.slowTurns(TURN), null);
    assert.equal(await turnsOf(store, 2, slow), [2, 4]);
    advance(6_000);
    assert.is(await store.slowTurns(TURN), 2);
    assert.equal(await turnsOf(store, 1, slow), [4]);
    advance(11_000);
    assert.equal(await turnsOf(store, 2, slow), [0, 0], 'faster again');
    assert.is(await store.slowTurns(TURN), 2, 'one of the two halvings was over');
    advance(40_000);
    assert.is(await store.slowTurns(TURN), 1);
    for (let i = 2; i <= 6; i++) {
      advance(1_000);
      assert.is(await store.slowTurns(TURN), Math.min(i, 4));
    }
  });

  test('turns: a throttle slows what is not given yet, once for all that is', async ({ store, advance }) => {
    await turnsOf(store, 8); // the last one in 10 s
    assert.is(await store.slowTurns(TURN), 1);
    assert.equal(await turnsOf(store, 2), [14, 18]);
    advance(8_000);
    assert.is(await store.slowTurns(TURN), null, 'that one was given before');
    advance(4_000);
    assert.is(await store.slowTurns(TURN), 2);
    assert.equal(await turnsOf(store, 1), [14]);
  });

  test('turns: a clock that was set back holds nobody up', async ({ store, advance }) => {
    await turnsOf(store, 4);
    await store.slowTurns(TURN);
    advance(-3_600_000);
    assert.equal(await turnsOf(store, 2), [2, 4]);
    assert.is(await store.slowTurns(TURN), 1);
  });

  test('facts are noted by name, the last one counts', async ({ store }) => {
    assert.is(await store.fact('boot'), null);
    await store.noteFact('boot', 'one');
    await store.noteFact('other', 'x');
    await store.noteFact('boot', 'two');
    assert.is(await store.fact('boot'), 'two');
  });

  test('of many that note a fact once, all hear the first one', async ({ store }) => {
    const heard = await Promise.all(
      ['one', 'two', 'three'].map(value => store.noteFactOnce('region', value)),
    );
    assert.is(new Set(heard).size, 1);
    assert.is(await store.noteFactOnce('region', 'four'), heard[0]);
    assert.is(await store.fact('region'), heard[0] ?? null);
  });
}
