// Measures the shipped bundle: `npm run bench -- [--quick] [--json] […]`, see --help. Prints a line of JSON for
// each row, then all rows as tables, and the targets. Every figure stands beside its limit from the same run.
// Exit status 1: an address was given twice, a request was answered with an error, or a part failed.
import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { type MariaDb, SYNCED, startMariadb } from '../test/kit/databases/mariadb.ts';
import { cold } from './bench/cold.ts';
import { startDriver } from './bench/driver.ts';
import { table, targetsOf } from './bench/report.ts';
import {
  type Bench,
  PARTS,
  type Part,
  type Plan,
  ROW_COUNTS,
  type Row,
  type RowCount,
} from './bench/rows.ts';
import { inits, starts } from './bench/starts.ts';
import { STORE_KINDS, storesIn } from './bench/stores.ts';
import { warm } from './bench/warm.ts';
import { ROOT, RUNTIMES } from './tiers.ts';
import { runScript, WrongUsage } from './usage.ts';

const BUNDLE = join(ROOT, 'dist/ec2-ipam.mjs');
const MEASURE: Readonly<Record<Part, (bench: Bench) => Promise<void>>> = {
  warm,
  cold,
  start: starts,
  init: inits,
};
const USAGE = `npm run bench -- [--quick] [--json] [--only PART] [--store STORE] [--runtime RUNTIME] \
[--clients N] [--rows ROWS]
  --quick    every part, as short as it gets: the figures mean little
  --json     only a line of JSON for each row and each target
  --only     ${PARTS.join(', ')}
  --store    ${STORE_KINDS.join(', ')}
  --runtime  ${RUNTIMES.join(', ')}
  --clients  of the warm rows, 1 to 200
  --rows     of the warm rows: ${Object.keys(ROW_COUNTS).join(', ')}
Each may be a list with commas.`;
const CLIENTS_MAX = 200;

// On exit, all programs that were started are killed.
process.on('SIGINT', () => process.exit(130)).on('SIGTERM', () => process.exit(143));
process.exit(await runScript(USAGE, main));

async function main(words: readonly string[]): Promise<number> {
  const options = parseOptions(words);
  if (!existsSync(BUNDLE)) {
    console.error('there is no bundle: npm run build');
    return 2;
  }
  const machine = `${availableParallelism()} cores, load average at the start ${loadavg()[0]?.toFixed(2)}`;
  const { rows, failures } = await measure(options.plan);
  const targets = targetsOf(rows);
  if (options.json) for (const target of targets) console.log(JSON.stringify(target));
  else console.log(`\n${table(rows, targets)}\n\n${machine}`);
  for (const failure of failures) console.error(failure);
  const wrong = rows.some(row => 'duplicates' in row && row.duplicates + row.errors > 0);
  return wrong || failures.length > 0 ? 1 : 0;
}

/** Throws WrongUsage, or an error of parseArgs. */
function parseOptions(words: readonly string[]) {
  const { values } = parseArgs({
    args: [...words],
    options: {
      quick: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      only: { type: 'string' },
      store: { type: 'string' },
      runtime: { type: 'string' },
      clients: { type: 'string' },
      rows: { type: 'string' },
    },
  });
  const plan: Plan = {
    quick: values.quick,
    parts: chosen('--only', values.only, PARTS) ?? PARTS,
    stores: chosen('--store', values.store, STORE_KINDS) ?? STORE_KINDS,
    runtimes: chosen('--runtime', values.runtime, RUNTIMES) ?? RUNTIMES,
    clients: numbers('--clients', values.clients),
    rows: chosen('--rows', values.rows, Object.keys(ROW_COUNTS) as RowCount[]),
  };
  return { plan, json: values.json };
}

function chosen<T extends string>(flag: string, given: string | undefined, all: readonly T[]): T[] | null {
  const words = given?.split(',') ?? null;
  const unknown = words?.find(word => !all.some(one => one === word));
  if (unknown !== undefined) throw new WrongUsage(`${flag} ${unknown}: it is one of ${all.join(', ')}`);
  return words as T[] | null;
}

function numbers(flag: string, given: string | undefined): number[] | null {
  const all = given?.split(',').map(Number) ?? null;
  if (all?.some(number => !Number.isInteger(number) || number < 1 || number > CLIENTS_MAX))
    throw new WrongUsage(`${flag} ${given}: whole numbers from 1 to ${CLIENTS_MAX}`);
  return all;
}

/** Runs the parts of the plan, one after another. Returns what could not be measured, and why, beside the rows. */
async function measure(plan: Plan): Promise<{ rows: Row[]; failures: string[] }> {
  const startedAt = performance.now();
  const folder = mkdtempSync(join(tmpdir(), 'ec2-ipam-bench-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const program = join(folder, 'ec2-ipam.mjs');
  copyFileSync(BUNDLE, program);
  let mariadb: Promise<MariaDb> | null = null;
  const stores = storesIn(folder, () => {
    mariadb ??= startMariadb(...SYNCED);
    return mariadb;
  });
  const rows: Row[] = [];
  const failures: string[] = [];
  const found = (row: Row) => {
    rows.push(row);
    console.log(JSON.stringify(row));
  };
  const progress = (text: string) => {
    const seconds = Math.round((performance.now() - startedAt) / 1000);
    process.stderr.write(`${String(seconds).padStart(4)} s  ${text}\n`);
  };
  for (const part of plan.parts) {
    const driver = startDriver();
    try {
      await MEASURE[part]({ plan, program, folder, driver, stores, progress, found });
    } catch (error) {
      failures.push(`${part} failed: ${(error as Error).stack}`);
    }
    await driver.stop();
  }
  await (mariadb as Promise<MariaDb> | null)?.then(database => database.stop());
  progress('done');
  return { rows, failures };
}
