// Goal: a page says when a subnet is full only by what is known of how fast it fills. Method: a store in memory, times that
// the test says.
import type { SubnetId } from '../../../src/domain/ids.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import { createForecast } from '../../../src/views/parts/forecast.ts';
import { make, makeReady, newRows } from '../../kit/ledger.ts';
import { range, SUBNET } from '../../kit/rows.ts';
import { assert, suite } from '../../kit/uvu.ts';

const [MINUTE_MS, HOUR_MS] = [60_000, 3_600_000];
const forecast = suite('when a subnet is full');

/** A ledger where an hour and more ago some were given, and since then some more; then some of each were given up.
 *  `ageMs`: since its first server started; null: none has. */
async function ledgerWith(
  old: number,
  ended: number,
  fresh: number,
  gone: number,
  ageMs: number | null = HOUR_MS,
) {
  let now = 1_000_000_000;
  const store = createMemoryStore({ clock: () => now });
  const lasts = range(old + fresh, 10);
  await store.add(newRows(...lasts));
  for (const last of lasts) await makeReady(store, last);
  for (const last of lasts.slice(0, old)) await make(store, last, 'claim');
  now += 2 * HOUR_MS - (ageMs ?? 0);
  if (ageMs !== null) await store.beat('server-1', false);
  now += ageMs ?? 0;
  if (ageMs !== null) await store.beat('server-2', false);
  for (const last of lasts.slice(old)) await make(store, last, 'claim');
  for (const last of [...lasts.slice(0, ended), ...lasts.slice(old, old + gone)])
    await make(store, last, 'release');
  const all = { first: 0, last: 2 ** 32 - 1 };
  const begun = (await store.blocks(SUBNET, all)).reduce((sum, one) => sum + one.begun, 0);
  const advance = (ms: number) => {
    now += ms;
  };
  return { told: createForecast(store, () => now), begun, advance };
}

// Given an hour ago and before, of these given up; given since then, of these given up: hours until 100 more are.
const LEDGERS: [
  old: number,
  ended: number,
  fresh: number,
  gone: number,
  hours: number | null,
  why: string,
][] = [
  [3, 1, 11, 0, 10, 'what was given since then, less what was given up'],
  [3, 1, 15, 4, 10, 'who came and went does not count'],
  [5, 4, 2, 0, null, 'it gets emptier'],
  [3, 1, 1, 0, null, 'it stays'],
  [3, 0, 5, 0, null, 'nothing was given up: perhaps nothing is noted'],
];
for (const [old, ended, fresh, gone, hours, why] of LEDGERS)
  forecast(`by the ledger: ${why}`, async () => {
    const { told, begun } = await ledgerWith(old, ended, fresh, gone);
    const ms = await told.fullInMs(SUBNET, 100, begun);
    assert.is(ms === null ? null : ms / HOUR_MS, hours);
    assert.is(await told.fullInMs('subnet-0b' as SubnetId, 100, 0), null, 'of another subnet');
  });

// Since the first server of the ledger started; hours until 100 more are given, when 10 were since then.
for (const [ageMs, hours, why] of [
  [6 * MINUTE_MS, 1, 'a tenth of an hour'],
  [20 * MINUTE_MS, 100 / 30, 'a third of an hour'],
  [59 * MINUTE_MS, 100 / 10 - 1 / 6, 'nearly an hour'],
  [3 * HOUR_MS, 10, 'hours: the last one counts'],
] as const)
  forecast(`by a ledger that has seen ${why}`, async () => {
    const { told, begun } = await ledgerWith(3, 1, 11, 0, ageMs);
    const ms = await told.fullInMs(SUBNET, 100, begun);
    if (ageMs < 10 * MINUTE_MS) assert.is(ms, null);
    else assert.is(ms, Math.round(hours * HOUR_MS));
  });

forecast('by a ledger of which no server is known: is not told', async () => {
  const { told, begun } = await ledgerWith(3, 1, 11, 0, null);
  assert.is(await told.fullInMs(SUBNET, 100, begun), null);
});

forecast('by what this process saw, when that was ten minutes or more', async () => {
  const { told, begun, advance } = await ledgerWith(3, 1, 11, 0);
  await told.fullInMs(SUBNET, 100, begun);
  advance(9 * MINUTE_MS);
  assert.is(await told.fullInMs(SUBNET, 90, begun), 9 * HOUR_MS, 'by the ledger');
  advance(MINUTE_MS);
  assert.is(await told.fullInMs(SUBNET, 90, begun), 90 * MINUTE_MS);
});
forecast.run();
