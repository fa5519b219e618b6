// Goal: the simulation finds what is wrong. Method: one small wrong change to the real code at a time, in a copy,
// which must make a history break a rule within a bounded number of seeds.
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { byLength } from '../kit/length.ts';
import { assert, suite } from '../kit/uvu.ts';
import { MUTANTS, type Mutant } from './mutants.ts';
import { type Found, hunt, mutated } from './mutate.ts';
import { simulate } from './simulate.ts';

const SEEDS_MAX = 8_000;
const TRIES_MAX = 5;

const quick = MUTANTS.filter(
  ({ file }, i) => !MUTANTS.slice(0, i).some(earlier => dirname(earlier.file) === dirname(file)),
);
const chosen = byLength({
  full: MUTANTS,
  short: quick,
  leftOut: `${MUTANTS.length - quick.length} of ${MUTANTS.length} mutants: all but one of each folder`,
});
const mutants = suite('mutants');
const hunts = new Map<Mutant, Promise<Found | null>>();

/** As many at a time as there are processors. */
function start(): void {
  const lanes = Array.from({ length: availableParallelism() }, (): Promise<unknown> => Promise.resolve());
  for (const [i, mutant] of chosen.entries()) {
    const lane = i % lanes.length;
    const hunted = Promise.resolve(lanes[lane]).then(() => huntDown(mutant));
    lanes[lane] = hunted.catch(() => {});
    hunts.set(mutant, hunted);
  }
}

/** Leaves out histories that break a rule without the mutant too. */
async function huntDown(mutant: Mutant): Promise<Found | null> {
  let from = 1;
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const found = await hunt(mutant, SEEDS_MAX, from);
    if (found === null) return null;
    const { violation } = await simulate(found.seed, null, false, mutant.focus);
    if (violation === null) return found;
    console.log(`  seed ${found.seed} breaks a rule without "${mutant.name}" too: ${violation.rule}`);
    from = found.seed + 1;
  }
  return null;
}

mutants.before(start);
for (const mutant of chosen)
  mutants(`${mutant.name}: found within ${SEEDS_MAX} histories`, async () => {
    const found = await hunts.get(mutant);
    assert.ok(found !== null, 'it survived: a rule is missing');
    assert.is.not(found?.rule, 'crash', found?.detail);
    console.log(`  ${mutant.name}: seed ${found?.seed}: ${found?.rule}`);
  });

mutants('there are at least twenty, and none is a double', () => {
  assert.ok(MUTANTS.length >= 20);
  assert.is(new Set(MUTANTS.map(one => one.file + one.find + one.replace)).size, MUTANTS.length);
});

mutants('one whose text has changed is stale', () => {
  const mutant = { name: 'x', file: 'y', find: 'a', replace: '$&b' };
  assert.is(mutated('cac', mutant), 'c$&bc');
  assert.throws(() => mutated('ccc', mutant), /stale/);
  assert.throws(() => mutated('caac', mutant), /2 times/);
});

mutants.run();
