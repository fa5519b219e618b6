/** What runs in the machine: the scenarios, their evidence on the console, their outcomes among the results. */
import { writeFileSync } from 'node:fs';
import process from 'node:process';
import { ACTS, type Act, type Scenario } from './scenarios.ts';
import { Stage } from './stage.ts';

/** Names of scenarios; put in when this is bundled. */
declare const SCENARIOS_WANTED: readonly string[];

const startedAt = performance.now();
function say(text: string): void {
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1).padStart(5);
  for (const line of text.split('\n')) console.log(`${seconds} s  ${line}`);
}

/** By scenario: `ok`, or what went wrong. */
const outcomes: Record<string, string> = {};
const isWanted = ({ name }: Scenario): boolean => SCENARIOS_WANTED.includes(name);

async function play(stage: Stage, { name, run }: Scenario): Promise<void> {
  say(`== ${name}`);
  try {
    await run(stage, say);
    stage.fabric.check();
    outcomes[name] = 'ok';
    say(`ok: ${name}`);
  } catch (error) {
    outcomes[name] = (error as Error).message;
    say(`FAILED: ${name}: ${(error as Error).stack}`);
  }
  writeFileSync('/out/outcomes.json', JSON.stringify(outcomes));
}

async function perform(stage: Stage, { way, tracks }: Act): Promise<void> {
  await stage.begin(way);
  say(`two Docker hosts are there, ${way}`);
  await Promise.all(
    tracks.map(async track => {
      for (const scenario of track) await play(stage, scenario);
    }),
  );
}

const stage = new Stage();
await stage.open();
say('EC2, its metadata, a database and a neighbour are there');
for (const { way, tracks } of ACTS) {
  const act: Act = { way, tracks: tracks.map(track => track.filter(isWanted)) };
  const names = act.tracks.flat().map(({ name }) => name);
  if (names.length === 0) continue;
  await perform(stage, act).catch(error => {
    for (const name of names) outcomes[name] ??= `the hosts did not come up: ${(error as Error).message}`;
    say(`FAILED: ${(error as Error).stack}`);
  });
  if (names.some(name => outcomes[name] !== 'ok')) stage.distrust();
  say(`frames dropped so far: ${JSON.stringify(stage.fabric.drops())}`);
  writeFileSync('/out/outcomes.json', JSON.stringify(outcomes));
}
process.exit(0);
