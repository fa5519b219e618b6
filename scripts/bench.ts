// Measures the shipped bundle: `npm run bench -- [--quick] [--json] […]`, see --help. Prints a line of JSON for each
// row, then all of them as a table, and how they compare with what is wanted. Every figure stands beside its limit
// from the same run. Exit status 1: an address was given twice, or a request was answered with an error.
import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { type MariaDb, startMariadb } from '../test/mariadb.ts';
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
process.exitCode = await main(process.argv.slice(2));

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
  const rows = await measured(options.plan, row => console.log(JSON.stringify(row)));
  const targets = targetsOf(rows);
  if (options.json) for (const target of targets) console.log(JSON.stringify(target));
  else console.log(`\n${table(rows, targets)}`);
  const wrong = rows.some(row => 'duplicates' in row && row.duplicates + row.errors > 0);
  return wrong ? 1 : 0;
}

/** Runs the parts of the plan, one after another. */
async function measured(plan: Plan, found: (row: Row) => void): Promise<Row[]> {
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
  const driver = startDriver();
  const rows: Row[] = [];
  const progress = (text: string) =>
    process.stderr.write(`${((performance.now() - startedAt) / 1000).toFixed(0).padStart(4)} s  ${text}\n`);
  const bench: Bench = {
    plan,
    program,
    folder,
    driver,
    stores,
    progress,
    found(row) {
      rows.push(row);
      found(row);
    },
  };
  try {
    for (const section of plan.sections) await PARTS[section](bench);
  } finally {
    await driver.stop();
    await (mariadb as Promise<MariaDb> | null)?.then(database => database.stop());
    removeFolder();
    process.off('exit', removeFolder);
  }
  progress('done');
  return rows;
}
