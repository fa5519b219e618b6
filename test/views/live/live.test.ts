// Goal: readers get what moves, each address once and newest, also after a lost connection; a slow one costs nothing; and
// nothing is kept while nobody looks. Method: a clock and timers that the test moves.
import * as v from 'valibot';
import type { Allocation } from '../../../src/domain/allocation.ts';
import { isBefore } from '../../../src/views/live/event-id.ts';
import { MovedEvent } from '../../../src/views/live/events.ts';
import { createLive, type Live, READERS_MAX, type Reader } from '../../../src/views/live/live.ts';
import { ip, OTHER_SUBNET, range, rowWith, SUBNET } from '../../kit/rows.ts';
import { inTurns } from '../../kit/turns.ts';
import { assert, suite } from '../../kit/uvu.ts';

const REST = { cooldownMs: 30_000, quarantineMs: 600_000 };

interface Message {
  readonly id: string;
  readonly event: string | null;
  /** The last bytes of the addresses, with their generations. */
  readonly cells: string[];
}
interface Context {
  live: Live;
  advance(ms: number): void;
  open(after?: string | null, subnet?: string | null): Reader;
  dropped: number;
}
const test = suite<Context>('live events');
test.before.each(context => {
  let now = 0;
  let timers: { at: number; work: () => void }[] = [];
  const later = (work: () => void, ms: number) => {
    const timer = { at: now + ms, work };
    timers.push(timer);
    return () => {
      timers = timers.filter(one => one !== timer);
    };
  };
  const live = createLive(REST, () => now, later);
  Object.assign(context, {
    ...{ live, dropped: 0 },
    advance(ms: number) {
      now += ms;
      const due = timers.filter(({ at }) => at <= now);
      timers = timers.filter(({ at }) => at > now);
      for (const { work } of due) work();
    },
    open(after: string | null = null, subnet: string | null = null) {
      const reader = live.open({ after, subnet, drop: () => void context.dropped++ });
      if (reader === null) throw new Error('no place');
      return reader;
    },
  });
});

const moved = (last: number, generation: number, more: Partial<Allocation> = {}) =>
  rowWith({ ip: ip(last), generation, status: 'allocated', ...more });
const publish = (live: Live, ...rows: Allocation[]) => live.observer.committed(rows, 1);

async function next(reader: Reader): Promise<Message> {
  const text = (await reader.next()) ?? 'event: end';
  const [, id = ''] = /^id: (.*)$/m.exec(text) ?? [];
  const [, event = null] = /^event: (.*)$/m.exec(text) ?? [];
  const [, data] = /^data: (.*)$/m.exec(text) ?? [];
  const cells = event === 'moved' ? v.parse(MovedEvent, JSON.parse(data ?? '')).cells : [];
  return { id, event, cells: cells.map(cell => `${cell.address.split('.')[3]}@${cell.generation}`) };
}

test('a change: is told within a second, several of one time together', async ({ live, advance, open }) => {
  const reader = open();
  assert.is((await next(reader)).event, null); // that it works
  const told = next(reader);
  publish(live, moved(6, 1), moved(7, 1));
  publish(live, moved(6, 2));
  advance(200);
  assert.equal((await told).cells, ['7@1', '6@2']);
  const later = next(reader);
  publish(live, moved(7, 2));
  advance(200);
  assert.equal((await later).cells, ['7@2']);
});

test('what is known: is not told again', async ({ live, advance, open }) => {
  const reader = open();
  await next(reader);
  publish(live, moved(6, 2));
  live.publish([moved(6, 2), moved(6, 1)]);
  assert.equal((await next(reader)).cells, ['6@2']);
  let isTold = false;
  void next(reader).then(() => (isTold = true));
  live.publish([moved(6, 2)]);
  advance(1000);
  await new Promise(setImmediate);
  assert.is(isTold, false);
});

/** Throws when it is looked at. */
const UNREAD = {
  [Symbol.iterator]() {
    throw new Error('read');
  },
} as never;

test('while nobody looks: nothing is read or kept', async ({ live, open, advance }) => {
  live.observer.committed(UNREAD, 1);
  const after = live.lastEvent();
  advance(30_000);
  publish(live, moved(7, 1));
  const reader = open(after);
  await next(reader);
  publish(live, moved(8, 1));
  assert.is((await next(reader)).event, 'reset'); // 8 is in the page that is loaded then
  publish(live, moved(9, 1));
  assert.equal((await next(reader)).cells, ['9@1']);
});

test('a page and its stream: what moves between them is not missed', async ({ live, open }) => {
  const after = live.lastEvent();
  publish(live, moved(6, 1));
  const reader = open(after);
  await next(reader);
  assert.equal((await next(reader)).cells, ['6@1']);
});

test('a lost connection: goes on where it was', async ({ live, advance, open }) => {
  const reader = open();
  await next(reader);
  publish(live, moved(6, 1));
  const { id } = await next(reader);
  reader.end();
  publish(live, moved(7, 1));
  advance(29_000);
  const again = open(id);
  await next(again);
  assert.equal((await next(again)).cells, ['7@1']);
});

const lost: [what: string, id: (live: Live, advance: (ms: number) => void) => string][] = [
  ['of another server', () => '0123abcd-1'],
  ['that is none', () => 'x'],
  ['of the future', live => live.lastEvent().replace(/\d+$/, '99')],
  [
    'after which too much time has passed',
    (live, advance) => {
      const id = live.lastEvent();
      advance(31_000);
      publish(live, moved(6, 1)); // nobody looks
      return id;
    },
  ],
  [
    'before which others have been forgotten',
    (live, advance) => {
      const id = live.lastEvent();
      publish(live, moved(6, 1));
      for (const _ of range(4)) {
        advance(20_000);
        live.lastEvent();
      }
      publish(live, moved(7, 1));
      return id;
    },
  ],
];
for (const [what, id] of lost)
  test(`an id ${what}: the page is to be loaded anew`, async ({ live, advance, open }) => {
    const reader = open(id(live, advance));
    await next(reader);
    assert.is((await next(reader)).event, 'reset');
    publish(live, moved(8, 1));
    assert.equal((await next(reader)).cells, ['8@1']);
  });

test('a slow reader: gets only the newest of each address, and much is told in portions', async context => {
  const { live, open } = context;
  const reader = open();
  await next(reader);
  for (const generation of range(20, 1))
    publish(live, ...range(600).map(last => rowWith({ ip: ip(last), generation })));
  const [first, second] = [await next(reader), await next(reader)];
  assert.equal([first.cells.length, second.cells.length], [500, 100]);
  assert.ok([...first.cells, ...second.cells].every(cell => cell.endsWith('@20')));
});

test('many readers and much to tell: a message is made once, and a turn of the event loop has few', async context => {
  const { live, advance, open } = context;
  const readers = range(20).map(() => open());
  for (const reader of readers) await next(reader);
  let made = 0;
  const holder = {
    toJSON() {
      made++;
      return 'web';
    },
  };
  const publishAt = (generation: number) =>
    publish(live, ...range(400).map(i => moved(i, generation, { holder: holder as never })));
  /** How many readers are told in one turn, at most. */
  async function mostAtOnce(tell: () => Promise<Message>[]): Promise<number> {
    let now = 0;
    const turns: number[] = [];
    const work = async () => {
      await new Promise(setImmediate); // the turns are counted from the first
      const told = tell().map(async one => {
        assert.is((await one).cells.length, 400);
        turns.push(now);
      });
      await Promise.all(told);
    };
    await inTurns(work, turn => {
      now = turn;
    });
    return Math.max(...[...Map.groupBy(turns, turn => turn).values()].map(({ length }) => length));
  }
  const waiting = await mostAtOnce(() => {
    const told = readers.map(reader => next(reader));
    publishAt(1);
    advance(200);
    return told;
  });
  assert.ok(waiting <= 10, `${waiting} who waited`);
  assert.is(made, 400);
  publishAt(2);
  const coming = await mostAtOnce(() => readers.map(reader => next(reader)));
  assert.ok(coming <= 10, `${coming} who came`);
  assert.is(made, 800);
});

test('a reader who is too far behind: is to begin anew', async ({ live, open }) => {
  const reader = open();
  await next(reader);
  publish(live, ...range(20_001).map(last => rowWith({ ip: ip(last), generation: 1 })));
  assert.is((await next(reader)).event, 'reset');
});

test('a reader who takes nothing for a minute: is dropped, one who waits is not', async context => {
  const { live, advance, open } = context;
  const [stuck, waiting] = [open(), open()];
  await next(stuck);
  await next(waiting);
  for (const _ of range(5)) {
    const beat = next(waiting);
    advance(15_000);
    assert.is((await beat).event, 'beat');
  }
  assert.equal([context.dropped, live.readers()], [1, 1]);
  assert.is((await next(stuck)).event, 'end');
});

test('of one subnet: nothing of others', async ({ live, open }) => {
  const reader = open(null, OTHER_SUBNET);
  await next(reader);
  publish(live, moved(6, 1), moved(7, 1, { subnet: OTHER_SUBNET }));
  assert.equal((await next(reader)).cells, ['7@1']);
  assert.is(SUBNET === OTHER_SUBNET, false);
});

test(`the ${READERS_MAX + 1}st reader: has no place until another ends`, ({ live, open }) => {
  const readers = range(READERS_MAX).map(() => open());
  const one = () => live.open({ after: null, subnet: null, drop: () => {} });
  assert.is(one(), null);
  readers[0]?.end();
  assert.ok(one() !== null);
});

test('the end: readers who wait are told, and nobody comes after it', async ({ live, open }) => {
  const reader = open();
  await next(reader);
  const told = next(reader);
  live.close();
  assert.is((await told).event, 'end');
  assert.is(live.open({ after: null, subnet: null, drop: () => {} }), null);
});
for (const [one, other, expected] of [
  ['0a-1', '0a-2', true],
  ['0a-9', '0a-10', true],
  ['0a-2', '0a-2', false],
  ['0a-3', '0a-2', false],
  ['0a-1', '0b-2', false],
  ['', '0a-2', false],
  ['0a-1', '', false],
] as const)
  test(`event "${one}": ${expected ? 'is' : 'is not'} before "${other}"`, () => {
    assert.is(isBefore(one, other), expected);
  });
test.run();
