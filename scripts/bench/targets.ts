/** What the project promises of its speed, each beside what the rows say: ratios within one run where that is possible,
 *  since they mean the same on every machine. */
import { ROW_COUNTS } from './bench.ts';
import type { ColdRow, InitRow, Row, StartRow, WarmRow } from './rows.ts';

/** One promise, and each case of it that was measured. */
export interface Target {
  readonly what: 'target';
  readonly name: string;
  readonly wanted: string;
  readonly measured: readonly Case[];
  /** In every case. */
  readonly met: boolean;
}
interface Case {
  readonly label: string;
  readonly value: number;
}

/** Who waits for another ENI's call waits for two. */
const FOR_OTHERS = 2;

/** Those that the rows can answer. */
export function targetsOf(rows: readonly Row[]): Target[] {
  const warm = rows.filter(row => row.what === 'warm');
  const cold = rows.filter(row => row.what === 'cold');
  const starts = rows.filter(row => row.what === 'start');
  const inits = rows.filter(row => row.what === 'init');
  const all = [
    ...ofAnswers(warm, cold),
    ...ofWarm(warm),
    ...ofSizes(warm),
    ...ofCold(cold),
    ...ofStarts(starts),
    ...ofInits(inits),
  ];
  return all.filter(({ measured }) => measured.length > 0);
}

const atMost = (name: string, limit: number, measured: readonly Case[]): Target => ({
  what: 'target',
  name,
  wanted: `≤ ${limit}`,
  measured,
  met: measured.every(({ value }) => value <= limit),
});
const atLeast = (name: string, limit: number, measured: readonly Case[]): Target => ({
  what: 'target',
  name,
  wanted: `≥ ${limit}`,
  measured,
  met: measured.every(({ value }) => value >= limit),
});
const cases = <R>(rows: readonly R[], label: (row: R) => string, value: (row: R) => number): Case[] =>
  rows.map(row => ({ label: label(row), value: value(row) }));
const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

function ofAnswers(warm: readonly WarmRow[], cold: readonly ColdRow[]): Target[] {
  const total = <R>(rows: readonly R[], label: string, count: (row: R) => number): Case[] =>
    rows.length === 0 ? [] : [{ label, value: sum(rows.map(count)) }];
  const both = (count: (row: WarmRow | ColdRow) => number) => [
    ...total(warm, 'warm', count),
    ...total(cold, 'cold', count),
  ];
  return [
    atMost(
      'addresses given twice',
      0,
      both(row => row.duplicates),
    ),
    atMost(
      'errors as answers',
      0,
      both(row => row.errors),
    ),
    atMost(
      'EC2 calls of warm starts',
      0,
      total(warm, 'warm', row => row.ec2Calls),
    ),
  ];
}

function ofWarm(warm: readonly WarmRow[]): Target[] {
  const small = warm.filter(row => row.rows === ROW_COUNTS['4k']);
  const mariadb = small.filter(row => row.store === 'mariadb');
  const of = (rows: readonly WarmRow[], ...clients: number[]) =>
    rows.filter(row => clients.includes(row.clients));
  const label = (row: WarmRow) => `${row.store} ${row.runtime}`;
  const at200 = of(mariadb, 200).flatMap(row => {
    const at50 = of(mariadb, 50).find(other => other.runtime === row.runtime);
    return at50 === undefined
      ? []
      : [{ label: row.runtime, value: row.callsPerSecond / at50.callsPerSecond }];
  });
  return [
    atMost(
      '1 client: RequestAddress p50 ÷ (commit p50 + no-op p50)',
      2,
      cases(of(small, 1), label, row => row.requestMs.p50 / (row.commitMs.p50 + row.noopMs.p50)),
    ),
    atLeast(
      'MariaDB, 50 clients: calls/s ÷ no-op calls/s',
      0.55,
      cases(
        of(mariadb, 50),
        row => row.runtime,
        row => row.callsPerSecond / row.noopPerSecond,
      ),
    ),
    atLeast(
      'MariaDB, 50 clients: pairs/s ÷ durable one-statement pairs/s',
      2,
      cases(
        of(mariadb, 50),
        row => row.runtime,
        row => pairsRatio(row) ?? Number.NaN,
      ),
    ),
    atLeast('MariaDB: calls/s of 200 clients ÷ of 50', 1, at200),
    atMost(
      'MariaDB, 50 and 200 clients: RequestAddress p99 ÷ p50',
      5,
      cases(
        of(mariadb, 50, 200),
        row => `${row.runtime} ${row.clients}`,
        row => row.requestMs.p99 / row.requestMs.p50,
      ),
    ),
    atLeast(
      'SQLite, 50 clients: calls/s ÷ commits/s',
      1,
      cases(
        of(small, 50).filter(row => row.store === 'sqlite'),
        row => row.runtime,
        row => row.callsPerSecond / row.commitsPerSecond,
      ),
    ),
    atMost(
      '200 clients: resident MB',
      160,
      cases(of(warm, 200), labelOfSize, row => row.peakResidentMb),
    ),
  ];
}

const labelOfSize = ({ store, runtime, rows }: WarmRow): string => `${store} ${runtime} ${rows}`;

/** Served request+release pairs for each that the database alone does; null: it was not asked. */
export const pairsRatio = ({ callsPerSecond, durablePairsPerSecond }: WarmRow): number | null =>
  durablePairsPerSecond === null ? null : callsPerSecond / 2 / durablePairsPerSecond;

/** Of each store and runtime, the geometric mean over all numbers of clients: one row alone is too uneven. */
function ofSizes(warm: readonly WarmRow[]): Target[] {
  const logs = new Map<string, number[]>();
  for (const large of warm.filter(row => row.rows === ROW_COUNTS['65k'])) {
    const { store, runtime, clients } = large;
    const small = warm.find(
      row =>
        row.rows === ROW_COUNTS['4k'] &&
        row.store === store &&
        row.runtime === runtime &&
        row.clients === clients,
    );
    if (small === undefined) continue;
    const label = `${store} ${runtime}`;
    logs.set(label, [...(logs.get(label) ?? []), Math.log(large.callsPerSecond / small.callsPerSecond)]);
  }
  const measured = [...logs].map(([label, all]) => ({ label, value: Math.exp(sum(all) / all.length) }));
  return [atLeast('calls/s at 65,536 rows ÷ at 4,096', 0.9, measured)];
}

function ofCold(cold: readonly ColdRow[]): Target[] {
  const of = (shape: ColdRow['shape']) => cold.filter(row => row.shape === shape);
  const label = (row: ColdRow) => `${row.store} ${row.runtime}`;
  const slowest = (row: ColdRow) => row.maxMs / row.assignMs;
  const atOnce = of('at once');
  const oneByOne = of('one by one');
  const many = of('many ENIs');
  return [
    atMost(
      '49 at once on a fresh ENI: assign calls',
      2,
      cases(atOnce, label, row => row.assignCalls),
    ),
    atMost('49 at once: slowest ÷ one assign', 1.4, cases(atOnce, label, slowest)),
    atMost(
      '49 one by one: assign calls',
      5,
      cases(oneByOne, label, row => row.assignCalls),
    ),
    atMost(
      '49 one by one: answers that waited ÷ assign calls',
      1,
      cases(oneByOne, label, row => row.waited / row.assignCalls),
    ),
    atMost(
      '50 ENIs, 8 each at once: assign calls',
      50,
      cases(many, label, row => row.assignCalls),
    ),
    atMost('50 ENIs, 8 each at once: slowest ÷ one assign', FOR_OTHERS, cases(many, label, slowest)),
  ];
}

function ofStarts(starts: readonly StartRow[]): Target[] {
  const label = (row: StartRow) => row.runtime;
  return [
    atMost(
      'start to first answer ÷ no-op bundle',
      2.5,
      cases(starts, label, row => row.firstAnswerMs / row.noopFirstAnswerMs),
    ),
    atMost(
      'idle resident memory ÷ no-op bundle',
      1.6,
      cases(starts, label, row => row.idleResidentMb / row.noopIdleResidentMb),
    ),
  ];
}

function ofInits(inits: readonly InitRow[]): Target[] {
  const mariadb = inits.filter(row => row.store === 'mariadb');
  const label = (row: InitRow) => `${row.runtime} ${row.enis} ENIs`;
  return [
    atMost(
      'MariaDB, init of a /16: seconds',
      2,
      cases(mariadb, label, row => row.seconds),
    ),
    atMost(
      'MariaDB, init of a /16: peak resident MB',
      120,
      cases(mariadb, label, row => row.peakResidentMb),
    ),
  ];
}
