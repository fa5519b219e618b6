// Goal: a release ends the holding that it was sent for, and none that began later.
// Method: a release without an answer, and looks at the row, by a process whose clock begins at 0.
import { afterLook, afterNo, afterTry, judge, type Look, onArrival } from '../../src/domain/holding.ts';
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

holding('its try had no answer, and the address was claimed anew meanwhile: the next holding is kept', () => {
  const first = rowWith({ status: 'allocated', movedAt: STORE - 30_000, restedSince: null });
  const next = { ...first, movedAt: STORE + 20, restedSince: STORE + 10, generation: first.generation + 2 };
  let known = afterTry(onArrival(at(0), STORE), first, false, at(0));
  const judgements = [look(next, 60, 1_916), look(next, 1_920, 1_925), look(next, 1_930, 1_935)].map(seen => {
    known = afterLook(known, seen);
    return judge(known, seen);
  });
  assert.equal(judgements, ['again', 'again', 'kept']);
});

// The clock of the store at the arrival is known better than the first looks tell, which a busy store answers late.
holding(
  'its try was of an older holding and had no answer, and looks are slow: the present one is ended',
  () => {
    const older = rowWith({ status: 'allocated', movedAt: STORE - 30_000, restedSince: null });
    const present = {
      ...older,
      movedAt: STORE - 13,
      restedSince: STORE - 32,
      generation: older.generation + 2,
    };
    const seen = { ...look(present, 60, 1_916), now: STORE + 60 };
    const known = afterLook(afterTry(onArrival(at(0), STORE), older, false, at(0)), seen);
    assert.is(judge(known, seen), 'meant');
  },
);

holding(
  'its try was refused, and slow looks cannot tell what came first: that is said, and nothing is taken for done',
  () => {
    const older = rowWith({ status: 'allocated', movedAt: STORE - 30_000, restedSince: null });
    const present = {
      ...older,
      movedAt: STORE - 13,
      restedSince: STORE - 32,
      generation: older.generation + 2,
    };
    let known = afterNo(afterTry(onArrival(at(0), null), older, false, at(0)));
    const judgements = [1, 2, 3].map(n => {
      const seen = { ...look(present, n * 50, n * 50 + 45), now: STORE + n * 50 };
      known = afterLook(known, seen);
      return judge(known, seen);
    });
    assert.equal(judgements, ['again', 'again', 'unsure']);
  },
);

holding(
  'its try was refused, and the address was surely claimed anew after it: the next holding is kept',
  () => {
    const first = rowWith({ status: 'allocated', movedAt: STORE - 30_000, restedSince: null });
    const next = { ...first, movedAt: STORE + 20, restedSince: STORE + 10, generation: first.generation + 2 };
    let known = afterNo(afterTry(onArrival(at(0), STORE), first, false, at(0)));
    const judgements = [30, 40, 50].map(sent => {
      const seen = look(next, sent, sent + 2);
      known = afterLook(known, seen);
      return judge(known, seen);
    });
    assert.equal(judgements, ['again', 'again', 'kept']);
  },
);

holding('its try had no answer and was not made: the holding is ended', () => {
  const first = rowWith({ status: 'allocated', movedAt: STORE - 30_000, restedSince: null });
  const seen = look(first, 60, 1_916);
  const known = afterLook(afterTry(onArrival(at(0), STORE), first, false, at(0)), seen);
  assert.is(judge(known, seen), 'meant');
});
holding.run();
