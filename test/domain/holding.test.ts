// Goal: a release ends the holding that it was sent for, and none that began later.
// Method: a release, and looks at the row, by a process whose clock begins at 0.
import {
  afterLook,
  afterTry,
  type Evidence,
  type Judgement,
  judge,
  type Look,
  onArrival,
} from '../../src/domain/holding.ts';
import { rowWith } from '../kit/rows.ts';
import { assert, suite } from '../kit/uvu.ts';

const holding = suite('the holding that a release is to end');

const at = (ms: number) => ({ least: ms, most: ms });
/** What the store's clock shows when ours shows 0. */
const STORE = 1_000_000;
const ID = 'rel-2';

/** A look at the row that the store answers with its clock at the end. */
const look = (row: Look['row'], sentMs: number, heardMs: number): Look => ({
  row,
  now: STORE + heardMs,
  sentAt: at(sentMs),
  heardAt: at(heardMs),
});

const older = rowWith({ status: 'allocated', movedAt: STORE - 30_000, restedSince: null });
const claimedAnew = (movedMs: number, restedMs: number, releaseId: string) => ({
  ...older,
  ...{ movedAt: STORE + movedMs, restedSince: STORE + restedMs, releaseId },
  generation: older.generation + 2,
});

/** What each look in turn tells. */
const judgementsOf = (known: Evidence, looks: readonly Look[]): Judgement[] => {
  let now = known;
  return looks.map(seen => {
    now = afterLook(now, seen);
    return judge(now, seen);
  });
};

for (const [when, storeAt] of [
  ['as it was', STORE],
  ['set back just before', STORE + 954],
  ['unknown', null],
] as const) {
  const tried = afterTry(onArrival(ID, at(0), storeAt), older, false);

  holding(`its try ended the older one, the store's clock ${when}: the next one is kept`, () => {
    const next = claimedAnew(20, 10, ID);
    assert.equal(judgementsOf(tried, [look(next, 60, 1_916)]), ['made']);
  });

  holding(
    `its try came after the release of another, the store's clock ${when}: the present one is ended`,
    () => {
      const present = claimedAnew(-13, -32, 'rel-1');
      assert.equal(judgementsOf(tried, [look(present, 60, 62)]), ['meant']);
    },
  );
}

holding('it began after the arrival, and another release ended the older one: it is kept', () => {
  const next = claimedAnew(20, 10, 'rel-1');
  assert.equal(judgementsOf(afterTry(onArrival(ID, at(0), STORE), older, false), [look(next, 30, 32)]), [
    'kept',
  ]);
});

for (const restedSince of [STORE - 7_000, null])
  holding(
    `nobody held the address when it arrived, released ${restedSince}: the next one is not ended`,
    () => {
      const next = { ...claimedAnew(14, 0, 'rel-1'), restedSince };
      const looks = [962, 970, 980].map(sent => look(next, sent, sent + 2));
      assert.equal(judgementsOf(onArrival(ID, at(0), STORE), looks), ['again', 'again', 'unsure']);
    },
  );

/** A look after the process was suspended for ten minutes. The monotonic clock stops then, the other does not. */
const suspendedLook = (row: Look['row']): Look => ({
  ...look(row, 1, 600_002),
  ...{ sentAt: { least: 1, most: 600_001 }, heardAt: { least: 2, most: 600_002 } },
});

holding('nobody held it, and the process was suspended before the look: the next one is not ended', () => {
  const seen = suspendedLook({ ...claimedAnew(300_000, 0, 'rel-1'), restedSince: STORE - 7_000 });
  for (const storeAt of [STORE, null])
    assert.equal(judgementsOf(onArrival(ID, at(0), storeAt), [seen, seen, seen]), [
      'again',
      'again',
      'unsure',
    ]);
});

holding('the process was suspended before the look: what was held at the arrival is ended', () => {
  for (const movedMs of [-5, -1_000])
    for (const storeAt of [STORE, null]) {
      const held = { ...claimedAnew(movedMs, 0, 'rel-1'), restedSince: STORE - 7_000 };
      assert.equal(judgementsOf(onArrival(ID, at(0), storeAt), [suspendedLook(held)]), ['meant']);
    }
});

holding('the process was stopped before it read the release: what was held when it read it is ended', () => {
  const held = { ...claimedAnew(-1_000, 0, 'rel-1'), restedSince: STORE - 70_000 };
  const known = onArrival(ID, at(0), STORE, { agoMs: 4_000, atMost: true });
  assert.equal(judgementsOf(known, [look(held, 1, 3)]), ['meant']);
});

holding(
  'a release that names the request that was given the address: ends what this request holds alone',
  () => {
    const named = onArrival(ID, at(0), STORE, { givenTo: 'req-1' });
    const next = claimedAnew(-1_000, -2_000, 'rel-3');
    const held = (requestId: string | null, row: typeof older) => [look({ ...row, requestId }, 1, 3)];
    assert.equal(judgementsOf(named, held('req-2', next)), ['later'], 'however old by the clocks');
    assert.equal(judgementsOf(named, held('req-1', claimedAnew(20, 10, 'rel-3'))), ['meant']);
    assert.equal(judgementsOf(named, held('req-1', claimedAnew(-5, -10, ID))), ['made']);
    assert.equal(
      judgementsOf(named, held(null, next)),
      ['meant'],
      'one without a request is judged by the clocks',
    );
  },
);

holding('slow looks cannot tell whether it began after the arrival: that is said', () => {
  const next = claimedAnew(20, 10, 'rel-1');
  const slow = [50, 100, 150].map(sent => look(next, sent, sent + 345));
  assert.equal(judgementsOf(onArrival(ID, at(0), null), slow), ['again', 'again', 'unsure']);
});

holding('its process had read the older one: a new one is kept, however slow the look', () => {
  const next = claimedAnew(20, 10, 'rel-1');
  const read = afterTry(onArrival(ID, at(0), null), older, true);
  assert.equal(judgementsOf(read, [look(next, 60, 1_916)]), ['later']);
});

holding('its try had no answer and was not made: the holding is ended', () => {
  const tried = afterTry(onArrival(ID, at(0), STORE), older, false);
  assert.equal(judgementsOf(tried, [look(older, 60, 1_916)]), ['meant']);
});
holding.run();
