// Goal: a release ends the holding that it was sent for, and none that began later.
// Method: a release without an answer, and looks at the row, by a process whose clock begins at 0.
import {
  afterLook,
  afterNo,
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

/** A look at the row, which was claimed again, that the store answers with its clock at the end. */
const look = (row: Look['row'], sentMs: number, heardMs: number): Look => ({
  row,
  now: STORE + heardMs,
  sentAt: at(sentMs),
  heardAt: at(heardMs),
});

const older = rowWith({ status: 'allocated', movedAt: STORE - 30_000, restedSince: null });
const claimedAnew = (movedMs: number, restedMs: number) => ({
  ...older,
  movedAt: STORE + movedMs,
  restedSince: STORE + restedMs,
  generation: older.generation + 2,
});
/** Began shortly before the release arrived. */
const present = claimedAnew(-13, -32);
/** Began after it. */
const next = claimedAnew(20, 10);

/** What each look in turn tells. */
const judgementsOf = (tried: Evidence, looks: readonly Look[]): Judgement[] => {
  let known = tried;
  return looks.map(seen => {
    known = afterLook(known, seen);
    return judge(known, seen);
  });
};

holding('its try had no answer, and the address was claimed anew meanwhile: the next holding is kept', () => {
  const tried = afterTry(onArrival(at(0), STORE), older, false, at(0));
  const looks = [look(next, 60, 1_916), look(next, 1_920, 1_925), look(next, 1_930, 1_935)];
  assert.equal(judgementsOf(tried, looks), ['again', 'again', 'kept']);
});

// The clock of the store at the arrival is known better than the first looks tell, which a busy store answers late.
holding(
  'its try was of an older holding and had no answer, and a look is slow: the present one is ended',
  () => {
    const tried = afterTry(onArrival(at(0), STORE), older, false, at(0));
    assert.equal(judgementsOf(tried, [{ ...look(present, 60, 1_916), now: STORE + 60 }]), ['meant']);
  },
);

holding('its try was refused, and slow looks cannot tell what came first: that is said', () => {
  const tried = afterNo(afterTry(onArrival(at(0), null), older, false, at(0)));
  const slow = [50, 100, 150].map(sent => ({ ...look(present, sent, sent + 45), now: STORE + sent }));
  assert.equal(judgementsOf(tried, slow), ['again', 'again', 'unsure']);
});

holding(
  'its try was refused, and the address was surely claimed anew later: the next holding is kept',
  () => {
    const tried = afterNo(afterTry(onArrival(at(0), STORE), older, false, at(0)));
    const looks = [30, 40, 50].map(sent => look(next, sent, sent + 2));
    assert.equal(judgementsOf(tried, looks), ['again', 'again', 'kept']);
  },
);

holding('its try had no answer and was not made: the holding is ended', () => {
  const tried = afterTry(onArrival(at(0), STORE), older, false, at(0));
  assert.equal(judgementsOf(tried, [look(older, 60, 1_916)]), ['meant']);
});
holding.run();
