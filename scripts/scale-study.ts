// How the driver fares at scale, without real time: `npm run scale-study -- --help`. A day of a fleet of 1,000 hosts and 100,000 addresses, a deploy on top of it and cold starts, under
// EC2's latencies and token buckets. The seed decides everything. Exit status 1: a rule was broken.
import process from 'node:process';
import { parseArgs } from 'node:util';
import { HOSTS_MAX } from './scale-study/fleet.ts';
import { study } from './scale-study/study.ts';
import { type Phase, rowOf, tableOf } from './scale-study/table.ts';
import { runScript, WrongUsage } from './usage.ts';

const USAGE = `npm run scale-study -- [--hosts N] [--hours H] [--seed S] [--json]
  --hosts    1 to ${HOSTS_MAX}; default 1000
  --hours    of the day of the fleet; default 24
  --seed     decides everything; default 1
  --json     the rows as JSON`;

process.exitCode = await runScript(USAGE, main);

async function main(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      hosts: { type: 'string', default: '1000' },
      hours: { type: 'string', default: '24' },
      seed: { type: 'string', default: '1' },
      json: { type: 'boolean', default: false },
    },
  });
  const [hosts, hours, seed] = [Number(values.hosts), Number(values.hours), Number(values.seed)];
  if (![hosts, hours, seed].every(Number.isSafeInteger) || hosts < 1 || hosts > HOSTS_MAX || hours < 1)
    throw new WrongUsage(`--hosts (at most ${HOSTS_MAX}), --hours and --seed are whole numbers`);
  const startedAt = performance.now();
  const seconds = () => ((performance.now() - startedAt) / 1000).toFixed(1);
  const progress = (what: string) => void process.stderr.write(`${what}, ${seconds()} s\n`);
  const { phases, addresses } = await study({ hosts, hours, seed, progress });
  const rows = phases.map(rowOf);
  if (values.json) console.log(JSON.stringify({ hosts, addresses, hours, seed, rows }, null, 2));
  else console.log(`${hosts} hosts, ${addresses} addresses, seed ${seed}\n\n${tableOf(rows)}`);
  for (const phase of phases) explain(phase);
  return phases.some(({ counts }) => counts.duplicates + counts.dead > 0) ? 1 : 0;
}

/** Prints errors, warnings and broken rules. */
function explain({ name, counts }: Phase): void {
  const tell = (times: number, text: string) =>
    void process.stderr.write(`${name}: ${times} times: ${text}\n`);
  for (const [text, times] of [...counts.errors, ...counts.warnings]) tell(times, text);
  if (counts.duplicates > 0) tell(counts.duplicates, 'AN ADDRESS WAS GIVEN THAT SOMEBODY HELD');
  if (counts.dead > 0) tell(counts.dead, 'AN ADDRESS WAS GIVEN THAT IS NOT ON ITS ENI');
}
