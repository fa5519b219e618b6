/** The command line of the benchmark. */
import { parseArgs } from 'node:util';
import { RUNTIMES } from '../tiers.ts';
import { type Plan, ROW_COUNTS, type RowCount, SECTIONS } from './bench.ts';
import { STORE_KINDS } from './stores.ts';

export const USAGE = `npm run bench -- [--quick] [--json] [--only PART] [--store STORE] [--runtime RUNTIME] [--clients N] [--rows ROWS]
  --quick    every part, as short as it gets: the figures mean little
  --json     only a line of JSON for each row and each target
  --only     ${SECTIONS.join(', ')}
  --store    ${STORE_KINDS.join(', ')}
  --runtime  ${RUNTIMES.join(', ')}
  --clients  of the warm rows, 1 to 200
  --rows     of the warm rows: ${Object.keys(ROW_COUNTS).join(', ')}
Each may be a list with commas.`;
const CLIENTS_MAX = 200;

export interface Options {
  readonly plan: Plan;
  readonly json: boolean;
}

/** Throws what is wrong, in one line. */
export function parseOptions(words: readonly string[]): Options {
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
  return {
    json: values.json,
    plan: {
      quick: values.quick,
      sections: chosen('--only', values.only, SECTIONS) ?? SECTIONS,
      stores: chosen('--store', values.store, STORE_KINDS) ?? STORE_KINDS,
      runtimes: chosen('--runtime', values.runtime, RUNTIMES) ?? RUNTIMES,
      clients: numbers('--clients', values.clients),
      rows: chosen('--rows', values.rows, Object.keys(ROW_COUNTS) as RowCount[]),
    },
  };
}

function chosen<T extends string>(flag: string, given: string | undefined, all: readonly T[]): T[] | null {
  const words = given?.split(',') ?? null;
  const unknown = words?.find(word => !all.some(one => one === word));
  if (unknown !== undefined) throw new Error(`${flag} ${unknown}: it is one of ${all.join(', ')}`);
  return words as T[] | null;
}

function numbers(flag: string, given: string | undefined): number[] | null {
  const all = given?.split(',').map(Number) ?? null;
  if (all?.some(number => !Number.isInteger(number) || number < 1 || number > CLIENTS_MAX))
    throw new Error(`${flag} ${given}: whole numbers from 1 to ${CLIENTS_MAX}`);
  return all;
}
