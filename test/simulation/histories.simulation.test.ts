// Goal: what few histories do not show is found. Method: more of those of simulation.test.ts, with other seeds.
import { assert, suite } from '../kit/uvu.ts';
import { explain, runSeeds } from './report.ts';

const FIRST_SEED = 1_001;
const HISTORIES = 2_000;

const histories = suite('simulation: many histories');
histories(`${HISTORIES} histories break no rule`, async () => {
  const tally = await runSeeds(FIRST_SEED, HISTORIES, 1);
  const [failure] = tally.failures;
  if (failure !== undefined) throw new Error(await explain(failure.seed));
  assert.is(tally.histories, HISTORIES);
});
histories.run();
