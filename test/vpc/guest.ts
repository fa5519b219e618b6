/** What runs in the machine: the scenarios, their evidence on the console, their outcomes among the results. */
import { writeFileSync } from 'node:fs';
import process from 'node:process';
import { Fixture } from './fixture.ts';
import { GROUPS, type Group, type Scenario } from './scenarios.ts';

/** Names of scenarios; put in when this is bundled. */
declare const SCENARIOS_WANTED: readonly string[];

const startedAt = performance.now();
function say(text: string): void {
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1).padStart(5);
  for (const line of text.split('\n')) console.log(`${seconds} s  ${line}`);
}

/** By scenario: `ok`, or what went wrong. */
const outcomes: Record<string, string> = {};
const writeOutcomes = () => writeFileSync('/out/outcomes.json', JSON.stringify(outcomes));

async function run(scenario: Scenario, fixture: Fixture): Promise<void> {
  const { name } = scenario;
  say(`== ${name}`);
  try {
    await scenario.run(fixture);
    fixture.fabric.check();
    outcomes[name] = 'ok';
    say(`ok: ${name}`);
  } catch (error) {
    outcomes[name] = (error as Error).message;
    say(`FAILED: ${name}: ${(error as Error).stack}`);
  }
  writeOutcomes();
}

async function runGroup({ way, tracks }: Group, fixture: Fixture): Promise<void> {
  await fixture.begin(way);
  say(`two Docker hosts are there, ${way}`);
  await Promise.all(
    tracks.map(async track => {
      for (const scenario of track) await run(scenario, fixture);
    }),
  );
}

const fixture = new Fixture(say);
await fixture.open();
say('EC2, its metadata, a database and a neighbour are there');
for (const { way, tracks: all } of GROUPS) {
  const tracks = all.map(track => track.filter(({ name }) => SCENARIOS_WANTED.includes(name)));
  const names = tracks.flat().map(({ name }) => name);
  if (names.length === 0) continue;
  await runGroup({ way, tracks }, fixture).catch(error => {
    for (const name of names) outcomes[name] ??= `the hosts did not come up: ${(error as Error).message}`;
    say(`FAILED: ${(error as Error).stack}`);
  });
  if (names.some(name => outcomes[name] !== 'ok')) fixture.distrust();
  say(`frames dropped so far: ${JSON.stringify(fixture.fabric.drops())}`);
  writeOutcomes();
}
process.exit(0);
