// Runs seeds until one breaks a rule: `hunt.ts FROM SEEDS [OPERATION…]`; these operations are drawn more often.
// Prints the failure as JSON, or null.
import process from 'node:process';
import type { OperationName } from './plan.ts';
import { simulate } from './simulate.ts';

const [from = 1, seeds = 1] = process.argv.slice(2, 4).map(Number);
const focus = process.argv.slice(4) as OperationName[];
let found: object | null = null;
for (let seed = from; seed < from + seeds && found === null; seed++) {
  const { violation } = await simulate(seed, null, false, focus);
  if (violation !== null) found = { seed, rule: violation.rule, detail: violation.detail };
}
console.log(JSON.stringify(found));
