// Goal: no address is ever given twice, lost or dead, whatever crashes. Method: seeded histories in which servers
// die and freeze at any await, EC2 and the ledger fail in every way that they may, engines behave as dockerd does,
// and what must be so is checked after each event and at rest. `npm run simulate-faults` runs many more.
import { readFile } from 'node:fs/promises';
import { assert, suite } from '../kit/uvu.ts';
import { MUTANTS } from './mutants.ts';
import { mutated } from './mutate.ts';
import { OPERATION_NAMES } from './plan.ts';
import { explain, runSeeds } from './report.ts';
import { shrink } from './shrink.ts';
import { ID_NOTED, simulate } from './simulate.ts';

/** Enough for the operation that is drawn least. */
const HISTORIES = 300;

const simulation = suite('simulation');

simulation(`${HISTORIES} histories break no rule`, async () => {
  const { failures, histories, counts } = await runSeeds(1, HISTORIES, 1);
  const [failure] = failures;
  if (failure !== undefined) throw new Error(await explain(failure.seed));
  assert.is(histories, HISTORIES);
  assert.equal(
    OPERATION_NAMES.filter(name => !(name in counts)),
    [],
    'every operation is carried out',
  );
  assert.ok((counts[ID_NOTED] ?? 0) > HISTORIES / 10, `${counts[ID_NOTED]} ids of containers were noted`);
});

simulation('the same seed makes the same history', async () => {
  for (const seed of [7, 8]) {
    const first = await simulate(seed, null, true);
    assert.ok(first.lines.length > 20);
    assert.equal((await simulate(seed, null, true)).lines, first.lines);
  }
});

simulation('a history is shrunk to the operations that matter', async () => {
  const tried: number[] = [];
  const kept = await shrink(40, async some => {
    tried.push(some.length);
    return some.includes(3) && some.includes(31);
  });
  assert.equal(kept, [3, 31]);
  assert.ok(tried.length < 100);
});

simulation('the text of each mutant stands in the code once', async () => {
  for (const mutant of MUTANTS)
    mutated(await readFile(new URL(`../../${mutant.file}`, import.meta.url), 'utf8'), mutant);
});

simulation('shrinking is bounded', async () => {
  let tries = 0;
  await shrink(1000, async () => tries++ < 0, 50);
  assert.is(tries, 50);
});

simulation.run();
