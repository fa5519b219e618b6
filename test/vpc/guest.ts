/** What runs in the machine: each scenario in its turn, its evidence on the console, its outcome among the results. */
import { writeFileSync } from 'node:fs';
import process from 'node:process';
import { SCENARIOS } from './scenarios.ts';
import { Stage } from './stage.ts';

const startedAt = performance.now();
const seconds = (): string => `${((performance.now() - startedAt) / 1000).toFixed(1).padStart(6)} s`;
const say = (text: string): void => {
  for (const line of text.split('\n')) console.log(`${seconds()}  ${line}`);
};

const stage = new Stage();
await stage.open();
say('two Docker hosts, a neighbour, EC2, metadata and a database are up');
declare const SCENARIOS_WANTED: readonly string[];
const outcomes: Record<string, string | null> = {};
for (const { name, run } of SCENARIOS.filter(({ name }) => SCENARIOS_WANTED.includes(name))) {
  say(`== ${name}`);
  try {
    await run(stage, say);
    outcomes[name] = null;
    say('ok');
  } catch (error) {
    outcomes[name] = (error as Error).message;
    say(`FAILED: ${(error as Error).stack}`);
  }
  say(`dropped so far: ${JSON.stringify(stage.fabric.drops())}`);
  writeFileSync('/out/outcomes.json', JSON.stringify(outcomes));
}
process.exit(0);
