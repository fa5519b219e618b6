// Measures the shipped bundle: `npm run bench -- [--quick] [--json] […]`, see --help. Prints a line of JSON for each
// row, then all of them as a table, and how they compare with what is wanted. Every figure stands beside its limit
// from the same run. Exit status 1: an address was given twice, a request was answered with an error, or a part failed.
import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { type MariaDb, startMariadb } from '../test/kit/databases/mariadb.ts';
import type { Bench, Plan, Section } from './bench/bench.ts';
import { cold } from './bench/cold.ts';
import { startDriver } from './bench/driver.ts';
import { inits } from './bench/inits.ts';
import { parseOptions, USAGE } from './bench/options.ts';
import type { Row } from './bench/rows.ts';
import { starts } from './bench/starts.ts';
import { storesIn } from './bench/stores.ts';
import { table } from './bench/table.ts';
import { targetsOf } from './bench/targets.ts';
import { warm } from './bench/warm.ts';
import { ROOT } from './tiers.ts';

const BUNDLE = join(ROOT, 'dist/ec2-ipam.mjs');
const PARTS: Readonly<Record<Section, (bench: Bench) => Promise<void>>> = {
  warm,
  cold,
  start: starts,
  init: inits,
};

process.on('SIGINT', () => process.exit(130)).on('SIGTERM', () => process.exit(143)); // what was started ends with it
process.exit(await main(process.argv.slice(2)));

async function main(words: readonly string[]): Promise<number> {
  if (words.includes('--help')) {
    console.log(USAGE);
    return 0;
  }
  let options: ReturnType<typeof parseOptions>;
  try {
    options = parseOptions(words);
  } catch (error) {
    console.error(`${(error as Error).message}\n${USAGE}`);
    return 2;
  }
  if (!existsSync(BUNDLE)) {
    console.error('there is no bundle: npm run build');
    return 2;
  }
  const context = `${availableParallelism()} cores, load average at the start ${loadavg()[0]?.toFixed(2)}`;
  const { rows, failures } = await measured(options.plan, row => console.log(JSON.stringify(row)));
  const targets = targetsOf(rows);
  if (options.json) for (const target of targets) console.log(JSON.stringify(target));
  else console.log(`\n${table(rows, targets)}\n\n${context}`);
  for (const failure of failures) console.error(failure);
  const wrong = rows.some(row => 'duplicates' in row && row.duplicates + row.errors > 0);
  return wrong || failures.length > 0 ? 1 : 0;
}

interface Measured {
  readonly rows: readonly Row[];
  /** What could not be measured, and why. */
  readonly failures: readonly string[];
}

/** Runs the parts of the plan, one after another. */
async function measured(plan: Plan, told: (row: Row) => void): Promise<Measured> {
  const startedAt = performance.now();
  const folder = mkdtempSync(join(tmpdir(), 'ec2-ipam-bench-'));
  const removeFolder = () => rmSync(folder, { recursive: true, force: true });
  process.once('exit', removeFolder);
  const program = join(folder, 'ec2-ipam.mjs');
  copyFileSync(BUNDLE, program);
  let mariadb: Promise<MariaDb> | null = null;
  const stores = storesIn(folder, () => {
    mariadb ??= startMariadb();
    return mariadb;
  });
  const rows: Row[] = [];
  const failures: string[] = [];
  const found = (row: Row) => {
    rows.push(row);
    told(row);
  };
  const progress = (text: string) => {
    const seconds = Math.round((performance.now() - startedAt) / 1000);
    process.stderr.write(`${String(seconds).padStart(4)} s  ${text}\n`);
  };
  for (const section of plan.sections) {
    const driver = startDriver();
    try {
      await PARTS[section]({ plan, program, folder, driver, stores, progress, found });
    } catch (error) {
      failures.push(`${section} failed: ${(error as Error).stack}`);
    }
    await driver.stop();
  }
  await (mariadb as Promise<MariaDb> | null)?.then(database => database.stop());
  progress('done');
  return { rows, failures };
}
