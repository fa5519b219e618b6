// Goal: what other servers move is told too, each once, while somebody looks. Method: two stores on one ledger in memory;
// only what the poll reads reaches the readers; the pauses end when the test says so.
import { type AddressRange, parseCidr } from '../../../src/domain/address.ts';
import type { Allocation } from '../../../src/domain/allocation.ts';
import type { SubnetId } from '../../../src/domain/ids.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import type { NewAllocation, Store } from '../../../src/store/store.ts';
import { createLive, type Live, type Reader } from '../../../src/views/live/live.ts';
import { pollFor } from '../../../src/views/live/poll.ts';
import { make, makeReady, newRows } from '../../kit/ledger.ts';
import { ENI, ip, ipsOf, range, rowWith, SUBNET } from '../../kit/rows.ts';
import { inTurns } from '../../kit/turns.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { until } from '../../kit/wait.ts';

interface Context {
  store: Store;
  live: Live;
  /** Ends the pause between two reads; throws unless there is one. */
  goOn(ms: number): Promise<void>;
  /** How many parts of the ledger were read, and how long that takes. */
  reads: number;
  readMs: number;
  /** The pauses, in milliseconds. */
  pauses: number[];
  isDown: boolean;
  warnings: string[];
  /** What is written now has the time of so long ago. */
  lateMs: number;
  begin(): () => void;
}
const test = suite<Context>('polling for live events');
test.before.each(async context => {
  let now = 1_700_000_000_000;
  const store = createMemoryStore({ clock: () => now - context.lateMs });
  const live = createLive({ cooldownMs: 0, quarantineMs: 0 }, () => now, soon);
  let pause: (() => void) | null = null;
  Object.assign(context, {
    lateMs: 0,
    store,
    live,
    reads: 0,
    readMs: 0,
    pauses: [],
    warnings: [],
    isDown: false,
  });
  const watched = new Proxy(store, {
    get: (target, name: keyof Store) => {
      if (name !== 'movedWithin') return target[name];
      return (...args: unknown[]) => {
        context.reads++;
        now += context.readMs;
        if (context.isDown) throw new Error('away');
        return (target[name] as (...args: unknown[]) => unknown)(...args);
      };
    },
  });
  context.begin = () =>
    pollFor({
      ...{ store: watched, live, clock: () => now },
      log: (_, message) => context.warnings.push(message),
      wait: (ms, signal) =>
        new Promise(resolve => {
          context.pauses.push(ms);
          pause = resolve;
          signal?.addEventListener('abort', () => resolve());
        }),
    });
  context.goOn = async ms => {
    await until('the pause', () => pause !== null);
    now += ms;
    const end = pause;
    pause = null;
    end?.();
    await until('the next pause', () => pause !== null || live.readers() === 0);
  };
  await store.saveSubnet({ id: SUBNET, vpc: 'vpc-0a', cidr: parseCidr('10.0.0.0/20') });
  await store.add(newRows(6, 7, 8, 9));
  now += 60_000;
});

/** The addresses of the next message, with their statuses. */
async function told(reader: { next(): Promise<string | null> }): Promise<string[]> {
  const [, data = '{"cells":[]}'] = /^data: (.*)$/m.exec((await reader.next()) ?? '') ?? [];
  const { cells } = JSON.parse(data) as { cells: { address: string; status: string }[] };
  return cells.map(({ address, status }) => `${address} ${status}`).sort();
}
function open(live: Live): Reader {
  const reader = live.open({ after: null, subnet: null, drop: () => {} });
  if (reader === null) throw new Error('no place');
  return reader;
}
/** What is gathered is told at once; no beats. */
function soon(work: () => void, ms: number): () => void {
  const timer = ms < 1000 ? setTimeout(work, 0) : undefined;
  return () => clearTimeout(timer);
}

test('while nobody looks: nothing is read', async context => {
  const { live, begin, goOn } = context;
  const end = begin();
  assert.is(context.reads, 0);
  const reader = open(live);
  await told(reader);
  reader.end();
  await goOn(2000);
  const count = context.reads;
  await new Promise(setImmediate);
  assert.is(context.reads, count);
  end();
});

test('a move by another: is told, once', async context => {
  const { store, live, goOn, begin } = context;
  await makeReady(store, 6);
  const end = begin();
  const reader = open(live);
  await told(reader);
  assert.equal(await told(reader), ['10.0.1.6 ready']); // from just before
  await make(store, 6, 'claim');
  await goOn(2000);
  assert.equal(await told(reader), ['10.0.1.6 allocated']);
  // The reads overlap with the ones before.
  await make(store, 7, 'hold', { reservedFor: 'x' });
  for (const _ of [1, 2, 3, 4, 5, 6]) await goOn(2000);
  assert.equal(await told(reader), ['10.0.1.7 reserved']);
  await make(store, 8, 'assign', { iface: ENI });
  await goOn(2000);
  assert.equal(await told(reader), ['10.0.1.8 assigning']);
  end();
  live.close();
});

test('a commit that shows late: is told', async context => {
  const { store, live, goOn, begin } = context;
  const end = begin();
  const reader = open(live);
  await told(reader);
  await goOn(2000);
  await goOn(2000);
  context.lateMs = 9_000;
  await make(store, 6, 'hold', { reservedFor: 'x' });
  context.lateMs = 0;
  await goOn(2000);
  assert.equal(await told(reader), ['10.0.1.6 reserved']);
  end();
  live.close();
});

test('a read that takes long to come to a part: tells what moved there since the read before', async context => {
  const { store, live, goOn, begin } = context;
  const subnets = range(5).map(i => `subnet-00${i}` as SubnetId);
  for (const id of subnets) await store.saveSubnet({ id, vpc: 'vpc-0a', cidr: parseCidr('10.0.1.0/28') });
  const subnet = subnets.at(-1) as SubnetId;
  await store.add([{ ...newRows(6)[0], subnet } as NewAllocation]);
  const { rows } = await store.get(subnet, [ip(6)]);
  const end = begin();
  const reader = open(live);
  await told(reader);
  await goOn(2000);
  await store.move(rows.map(row => ({ row, move: 'hold', reservedFor: 'x' })));
  context.readMs = 5_000;
  await goOn(11_000);
  context.readMs = 0;
  await make(store, 7, 'hold', { reservedFor: 'x' });
  await goOn(2000);
  assert.equal(await told(reader), ['10.0.1.6 reserved', '10.0.1.7 reserved']);
  end();
  live.close();
});

test('a ledger that is slow: is read less often', async context => {
  const { live, goOn, begin, pauses } = context;
  const end = begin();
  const reader = open(live);
  await told(reader);
  for (const [readMs, pauseMs] of [
    [10, 2000],
    [200, 4000],
    [800, 10_000],
  ] as const) {
    context.readMs = readMs;
    await goOn(2000);
    assert.is(pauses.at(-1), pauseMs, `${readMs} ms`);
  }
  end();
  live.close();
});

test('many moves: are told some at a time, between which others go on', async () => {
  const rows = range(1000).map(i => rowWith({ ip: ip(i), generation: 1 }));
  const told: string[] = [];
  const steps: ('told' | 'other')[] = [];
  const poll = new Promise<void>(resolve => {
    let begin = () => {};
    const live = {
      readers: () => 1,
      onFirst: (first: () => void) => {
        begin = first;
      },
      publish(some: readonly Allocation[]) {
        steps.push('told');
        told.push(...ipsOf(some));
      },
    };
    const store = {
      subnets: async () => [{ id: SUBNET, vpc: 'vpc-0a', cidr: parseCidr('10.0.0.0/20') }],
      partsOf: (whole: AddressRange) => [whole],
      movedWithin: async () => ({ now: 0, rows }),
    };
    const end = pollFor({
      ...{ store, live: live as unknown as Live, clock: () => 0, log: () => {} },
      wait: async () => {
        end();
        resolve();
      },
    });
    begin();
  });
  await inTurns(
    () => poll,
    () => steps.push('other'),
  );
  assert.equal(told, ipsOf(rows));
  assert.not.match(steps.join(' '), 'told told');
  assert.ok(steps.filter(step => step === 'told').length >= 4);
});

test('a ledger that is away: is said once, and read again when it is back', async context => {
  const { store, live, goOn, begin } = context;
  context.isDown = true;
  const end = begin();
  const reader = open(live);
  await told(reader);
  await goOn(10_000);
  await make(store, 9, 'hold', { reservedFor: 'x' });
  await goOn(10_000);
  assert.equal(context.warnings, ['live view: the ledger was not read']);
  context.isDown = false;
  await goOn(10_000);
  assert.equal(await told(reader), ['10.0.1.9 reserved']);
  end();
  live.close();
});
test.run();
