/** What runs in the machine: the scenarios, their evidence on the console, their outcomes among the results. */
import { writeFileSync } from 'node:fs';
import process from 'node:process';
import { ACTS, type Scenario } from './scenarios.ts';
import { Stage } from './stage.ts';

/** Their names; put in when this is bundled. */
declare const SCENARIOS_WANTED: readonly string[];

const startedAt = performance.now();
function say(text: string): void {
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1).padStart(5);
  for (const line of text.split('\n')) console.log(`${seconds} s  ${line}`);
}

const outcomes: Record<string, string | null> = {};
const isWanted = ({ name }: Scenario): boolean => SCENARIOS_WANTED.includes(name);
const message = (error: unknown): string => (error as Error).message;

async function play(stage: Stage, { name, run }: Scenario): Promise<void> {
  say(`== ${name}`);
  try {
    await run(stage, say);
    outcomes[name] = null;
    say(`ok: ${name}`);
  } catch (error) {
    outcomes[name] = message(error);
    say(`FAILED: ${name}: ${(error as Error).stack}`);
  }
}

const stage = new Stage();
await stage.open();
say('EC2, its metadata, a database and a neighbour are there');
for (const { way, tracks } of ACTS) {
  const wanted = tracks.map(track => track.filter(isWanted));
  if (wanted.flat().length === 0) continue;
  try {
    await stage.begin(way);
    say(`two Docker hosts are there, ${way}`);
    await Promise.all(
      wanted.map(async track => {
        for (const scenario of track) await play(stage, scenario);
      }),
    );
  } catch (error) {
    for (const { name } of wanted.flat()) outcomes[name] ??= `the hosts did not come up: ${message(error)}`;
    say(`FAILED: ${(error as Error).stack}`);
  }
  say(`frames dropped so far: ${JSON.stringify(stage.fabric.drops())}`);
  writeFileSync('/out/outcomes.json', JSON.stringify(outcomes));
}
process.exit(0);
