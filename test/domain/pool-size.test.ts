// Goal: a pool is as warm as its holders call for, and no warmer. Method: the numbers of src/cli/README.md, row by row.
import { fromNumber } from '../../src/domain/address.ts';
import type { Allocation } from '../../src/domain/allocation.ts';
import {
  affordable,
  batchFor,
  excessOf,
  GROWTH_HALVES_IN_MS,
  type Growth,
  grown,
  marksOf,
  NO_GROWTH,
  placesTaken,
  refillOf,
  type Stock,
} from '../../src/domain/pool-size.ts';
import { rowWith } from '../kit/rows.ts';
import { assert, suite } from '../kit/uvu.ts';

const TARGET = { warmMin: 2, warmMax: 6 };
const QUIET = { low: 2, high: 6 };
const EMPTY: Stock = { usable: 0, resting: 0, inFlight: 0, room: 49 };
const after = (steps: readonly (1 | -1)[], everyMs: number, from: Growth = NO_GROWTH): Growth =>
  steps.reduce((growth, step, i) => grown(growth, step, i * everyMs), from);
const claims = (count: number): 1[] => Array.from({ length: count }, () => 1);

const growing = suite('grown');
growing('growth: counts the claims of the last seconds', () => {
  assert.ok(Math.abs(after(claims(10), 100).level - 10) < 0.1);
});
growing('growth: halves within a minute, and is gone within ten', () => {
  const burst = after(claims(16), 0);
  assert.is(marksOf(TARGET, burst, 0).low, 18);
  assert.is(marksOf(TARGET, burst, GROWTH_HALVES_IN_MS).low, 10);
  assert.equal(marksOf(TARGET, burst, 10 * GROWTH_HALVES_IN_MS), QUIET);
});
growing('growth: is none for a container that crashes and starts again', () => {
  const loop = Array.from({ length: 400 }, (_, i): 1 | -1 => (i % 2 === 0 ? 1 : -1));
  assert.equal(marksOf(TARGET, after(loop, 500), 200_000), QUIET);
});
growing('growth: what a pool lost is no debt', () => {
  const shrunk = after([-1, -1, -1, -1], 10);
  assert.is(grown(shrunk, 1, 50).level, 1);
});
growing('growth: a clock that stands still or goes back does no harm', () => {
  assert.is(grown({ level: 3, at: 1000 }, 1, 500).level, 4);
});

const marking = suite('marksOf');
const marks: [gained: number, low: number, high: number][] = [
  [0, 2, 6],
  [1, 3, 8],
  [4, 6, 14],
  [20, 22, 46],
];
for (const [gained, low, high] of marks)
  marking(`${gained} holders gained: ${low} to ${high}`, () =>
    assert.equal(marksOf(TARGET, { level: gained, at: 0 }, 0), { low, high }),
  );
marking('a maximum of 0: keeps none, however the pool grows', () =>
  assert.equal(marksOf({ warmMin: 0, warmMax: 0 }, { level: 9, at: 0 }, 0), { low: 0, high: 0 }),
);

const refilling = suite('refillOf');
type Refill = [usable: number, resting: number, inFlight: number, room: number, demand: number, why: string];
const refills: Refill[] = [
  [2, 0, 0, 49, 0, 'between the marks: nothing happens'],
  [6, 0, 0, 49, 0, 'at the high mark: nothing happens'],
  [1, 0, 0, 49, 5, 'below the low mark: it is filled to the high one, in one call'],
  [0, 0, 0, 49, 6, 'an empty pool: is filled to the high mark'],
  [1, 0, 1, 49, 0, 'a promise in flight: counts'],
  [1, 0, 0, 3, 3, 'the ENI: is never filled past what it can hold'],
  [1, 0, 0, -1, 0, 'an ENI that holds too much: gets nothing'],
  [1, 6, 0, 49, 5, 'what cools down: cannot be used'],
  [1, 9, 0, 49, 2, 'what cools down: counts towards twice the high mark'],
  [0, 12, 0, 49, 0, 'a container that crashes and starts again: inflates nothing beyond that'],
];
for (const [usable, resting, inFlight, room, demand, why] of refills)
  refilling(why, () => assert.is(refillOf({ usable, resting, inFlight, room }, QUIET), demand));
refilling('with growth: the pool doubles with each call', () => {
  assert.is(refillOf({ ...EMPTY, usable: 21 }, marksOf(TARGET, { level: 20, at: 0 }, 0)), 25);
});

const batching = suite('batchFor');
const batches: [waiting: number, stock: Partial<Stock>, batch: number, why: string][] = [
  [1, {}, 13, 'who waits: gets one, and the pool twice its quiet maximum'],
  [49, {}, 49, 'all who wait: share one call, as far as the ENI has room'],
  [3, { room: 2 }, 2, 'the ENI: is asked for no more than it can hold'],
  [3, { inFlight: 5 }, 10, 'what is in flight: is a part of what comes after those who wait'],
  [3, { inFlight: 40 }, 3, 'what is in flight: takes nothing from those who wait'],
  [1, { resting: 12 }, 1, 'a pool full of addresses that cool down: gets only what is needed'],
  [1, { resting: 30 }, 1, 'an overfull pool that cools down: gets no less'],
  [4, { usable: 2 }, 14, 'what is ready already: serves some of them'],
  [2, { usable: 20 }, 0, 'what is ready already: serves all of them'],
];
for (const [waiting, stock, batch, why] of batches)
  batching(why, () => assert.is(batchFor(waiting, { ...EMPTY, ...stock }, TARGET, QUIET), batch));
batching('warm pools turned off: just those who wait are served', () => {
  const off = { warmMin: 0, warmMax: 0 };
  assert.is(batchFor(3, EMPTY, off, marksOf(off, NO_GROWTH, 0)), 3);
});

const placing = suite('placesTaken');
const at = (status: Allocation['status'], last: number, more: Partial<Allocation> = {}): Allocation =>
  rowWith({ status, ip: fromNumber(10 * 2 ** 24 + last), ...more });
const block = (from: number, count = 16, more: Partial<Allocation> = {}): Allocation[] =>
  Array.from({ length: count }, (_, i) => at('occupied', from + i, more));
const ours = [at('ready', 1), at('allocated', 2), at('assigning', 3), at('unassigning', 4)];
const places: [rows: Allocation[], prefixes: number, taken: number, why: string][] = [
  [ours, 0, 4, 'an address of ours: takes one'],
  [[...ours, ...block(32)], 1, 5, 'a prefix: takes one, and its sixteen addresses none'],
  [[...ours, ...block(32, 3)], 0, 7, 'a few strangers: take one each'],
  [[...ours, ...block(32), ...block(64, 3)], 1, 8, 'a prefix and strangers: take one each'],
  [[...ours, ...block(32), ...block(64)], 2, 6, 'two prefixes: take two'],
  [ours, 1, 5, 'a prefix that the ledger has not seen, or outside its part of the subnet: takes one'],
  [[...ours, ...block(32, 8)], 1, 5, 'a prefix half in its part of the subnet: takes one'],
  [[...ours, ...block(32)], 0, 4, 'a prefix that has gone: takes none, until the next comparison'],
  [[...ours, ...block(32, 16, { absentSince: 1 })], 0, 4, 'what EC2 shows on no ENI: takes none'],
];
for (const [rows, prefixes, taken, why] of places)
  placing(why, () => assert.is(placesTaken(rows, prefixes), taken));

const affording = suite('affordable');
type Budget = [batch: number, waiting: number, free: number, reserve: number, takes: number, why: string];
const budgets: Budget[] = [
  [13, 1, 200, 40, 13, 'a subnet with enough: takes all that is asked'],
  [13, 1, 50, 40, 10, 'a subnet with little: the reserve is left'],
  [13, 1, 9, 2, 4, 'a small subnet: half of it is left'],
  [13, 5, 9, 2, 5, 'a small subnet: those who wait take more than half'],
  [13, 0, 9, 0, 4, 'a refill of a small subnet: half of it is left'],
  [13, 1, 30, 40, 1, 'whoever waits: is served from the reserve'],
  [13, 0, 30, 40, 0, 'a refill: takes nothing of the reserve'],
  [13, 5, 3, 40, 3, 'those who wait: take no more than there is'],
  [2, 5, 100, 0, 2, 'those who wait: take no more than asked'],
];
for (const [batch, waiting, free, reserve, takes, why] of budgets)
  affording(why, () => assert.is(affordable(batch, waiting, free, reserve), takes));

const draining = suite('excessOf');
draining('excess: is what is beyond the high mark, not beyond the low one', () => {
  assert.is(excessOf(9, 6), 3);
  assert.is(excessOf(5, 6), 0);
});

for (const s of [growing, marking, refilling, batching, placing, affording, draining]) s.run();
