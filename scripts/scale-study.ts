// How the driver fares at scale, without real time: `npm run scale-study -- [--hosts N] [--hours H] [--seed S]
// [--json]`. A day of a fleet of 1,000 hosts and 100,000 addresses, a deploy on top of it and cold starts, with
// EC2's latencies and token buckets. The seed decides everything. Exit status 1: a rule was broken.
import process from 'node:process';
import { parseArgs } from 'node:util';
import { study } from './scale-study/study.ts';
import { rowOf, tableOf } from './scale-study/table.ts';

process.exitCode = await main();

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      hosts: { type: 'string', default: '1000' },
      hours: { type: 'string', default: '24' },
      seed: { type: 'string', default: '1' },
      json: { type: 'boolean', default: false },
    },
  });
  const [hosts, hours, seed] = [Number(values.hosts), Number(values.hours), Number(values.seed)];
  if (![hosts, hours, seed].every(Number.isSafeInteger) || hosts < 1 || hours < 1 || hosts > 10_000) {
    console.error('--hosts (at most 10,000), --hours and --seed are whole numbers');
    return 2;
  }
  const startedAt = performance.now();
  const seconds = () => ((performance.now() - startedAt) / 1000).toFixed(1);
  const progress = (what: string) => void process.stderr.write(`${what}, ${seconds()} s\n`);
  const phases = await study({ hosts, hours, seed, progress });
  const rows = phases.map(rowOf);
  console.log(values.json ? JSON.stringify(rows, null, 2) : tableOf(rows));
  for (const { name, counts } of phases)
    for (const [text, times] of [...counts.errors, ...counts.warnings])
      process.stderr.write(`${name}: ${times} times: ${text}\n`);
  const broken = phases.reduce((sum, { counts }) => sum + counts.duplicates + counts.dead, 0);
  if (broken > 0) console.error(`${broken} addresses were given twice, or not where they are`);
  return broken > 0 ? 1 : 0;
}
