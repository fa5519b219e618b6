/** The report: the rows as tables, and the targets that they meet or miss. A target is a ratio within one
 *  run where that is possible, since a ratio means the same on every machine. */
import {
  type ColdRow,
  type EarlyRow,
  type InitRow,
  ROW_COUNTS,
  type Row,
  rowsOf,
  type StartRow,
  sum,
  type WarmRow,
} from './rows.ts';

/** What the project wants of one figure, and each case of it that was measured. */
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

const callsOverNoop = (row: WarmRow) => row.callsPerSecond / row.noopPerSecond;
const callsOverCommits = (row: WarmRow) => row.callsPerSecond / row.commitsPerSecond;
/** Pairs of the server for each pair of the database alone. NaN: SQLite. */
const pairsOverDurable = (row: WarmRow) => row.callsPerSecond / 2 / (row.durablePairsPerSecond ?? Number.NaN);
const p50OverLimits = (row: WarmRow) => row.requestMs.p50 / (row.commitMs.p50 + row.noopMs.p50);
const p99OverP50 = ({ requestMs }: WarmRow) => requestMs.p99 / requestMs.p50;
const callsOverWarm = (row: EarlyRow) => row.callsPerSecond / row.warm.callsPerSecond;
const p50OverWarm = (row: EarlyRow) => row.requestMs.p50 / row.warm.requestMs.p50;
const maxOverAssign = (row: ColdRow) => row.maxMs / row.assignMs;
const waitedOverAssigns = (row: ColdRow) => row.waited / row.assignCalls;
const startOverNoop = (row: StartRow) => row.firstAnswerMs / row.noopFirstAnswerMs;
const idleOverNoop = (row: StartRow) => row.idleResidentMb / row.noopIdleResidentMb;

const runtimeOf = ({ runtime }: Row) => runtime;
const kindOf = ({ store, runtime }: WarmRow | ColdRow) => `${store} ${runtime}`;
const kindAndClients = ({ store, runtime, clients }: EarlyRow) => `${store} ${runtime} ${clients}`;
const kindAndRows = ({ store, runtime, rows }: WarmRow) => `${store} ${runtime} ${rows}`;
const runtimeAndClients = ({ runtime, clients }: WarmRow) => `${runtime} ${clients}`;
const runtimeAndEnis = ({ runtime, enis }: InitRow) => `${runtime} ${enis} ENIs`;
const assignCallsOf = (row: ColdRow) => row.assignCalls;
const peakMbOf = (row: WarmRow | InitRow) => row.peakResidentMb;
const secondsOf = (row: InitRow) => row.seconds;

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

/** Returns the targets that the rows can answer. */
export function targetsOf(rows: readonly Row[]): Target[] {
  const all = [
    ...countTargets(rows),
    ...warmTargets(rowsOf(rows, 'warm')),
    ...earlyTargets(rowsOf(rows, 'early')),
    ...coldTargets(rowsOf(rows, 'cold')),
    ...startTargets(rowsOf(rows, 'start')),
    ...initTargets(rowsOf(rows, 'init')),
  ];
  return all.filter(({ measured }) => measured.length > 0);
}

function countTargets(rows: readonly Row[]): Target[] {
  const total = <W extends Row['what']>(
    what: W,
    count: (row: Extract<Row, { what: W }>) => number,
  ): Case[] => {
    const some = rowsOf(rows, what);
    return some.length === 0 ? [] : [{ label: what, value: sum(some.map(count)) }];
  };
  const allTotals = (of: 'duplicates' | 'errors') =>
    (['warm', 'early', 'cold'] as const).flatMap(what => total(what, row => row[of]));
  return [
    atMost('addresses given twice', 0, allTotals('duplicates')),
    atMost('errors as answers', 0, allTotals('errors')),
    atMost(
      'EC2 calls of warm starts',
      0,
      total('warm', row => row.ec2Calls),
    ),
  ];
}

function warmTargets(warm: readonly WarmRow[]): Target[] {
  const of = (store: WarmRow['store'] | null, ...clients: number[]) =>
    warm.filter(
      row =>
        row.rows === ROW_COUNTS['4k'] &&
        (store === null || row.store === store) &&
        clients.includes(row.clients),
    );
  const at50 = of('mariadb', 50);
  const at200 = of('mariadb', 200).flatMap(({ runtime, callsPerSecond }) => {
    const fewer = at50.find(row => row.runtime === runtime);
    return fewer === undefined ? [] : [{ label: runtime, value: callsPerSecond / fewer.callsPerSecond }];
  });
  const of200 = warm.filter(({ clients }) => clients === 200);
  return [
    atMost(
      '1 client: RequestAddress p50 ÷ (commit p50 + no-op p50)',
      2,
      cases(of(null, 1), kindOf, p50OverLimits),
    ),
    atLeast('MariaDB, 50 clients: calls/s ÷ no-op calls/s', 0.55, cases(at50, runtimeOf, callsOverNoop)),
    atLeast(
      'MariaDB, 50 clients: pairs/s ÷ durable one-statement pairs/s',
      2,
      cases(at50, runtimeOf, pairsOverDurable),
    ),
    atLeast('MariaDB: calls/s of 200 clients ÷ of 50', 1, at200),
    atMost(
      'MariaDB, 50 and 200 clients: RequestAddress p99 ÷ p50',
      5,
      cases(of('mariadb', 50, 200), runtimeAndClients, p99OverP50),
    ),
    atLeast(
      'SQLite, 50 clients: calls/s ÷ commits/s',
      1,
      cases(of('sqlite', 50), runtimeOf, callsOverCommits),
    ),
    atMost('200 clients: resident MB', 160, cases(of200, kindAndRows, peakMbOf)),
    atLeast('calls/s at 65,536 rows ÷ at 4,096', 0.9, largeOverSmall(warm)),
  ];
}

/** Returns the geometric mean over all numbers of clients, since single rows vary too much. */
function largeOverSmall(warm: readonly WarmRow[]): Case[] {
  const logs = new Map<string, number[]>();
  for (const large of warm.filter(row => row.rows === ROW_COUNTS['65k'])) {
    const label = kindOf(large);
    const small = warm.find(
      row => row.rows === ROW_COUNTS['4k'] && kindOf(row) === label && row.clients === large.clients,
    );
    if (small === undefined) continue;
    logs.set(label, [...(logs.get(label) ?? []), Math.log(large.callsPerSecond / small.callsPerSecond)]);
  }
  return [...logs].map(([label, all]) => ({ label, value: Math.exp(sum(all) / all.length) }));
}

/** An early reuse costs one commit, as a warm start does, and a line in the log. */
const earlyTargets = (early: readonly EarlyRow[]): Target[] => [
  atMost(
    'nothing rested on the ENI: RequestAddress p50 ÷ warm',
    1.5,
    cases(early, kindAndClients, p50OverWarm),
  ),
  atLeast('nothing rested on the ENI: calls/s ÷ warm', 0.6, cases(early, kindAndClients, callsOverWarm)),
];

function coldTargets(cold: readonly ColdRow[]): Target[] {
  const of = (shape: ColdRow['shape'], value: (row: ColdRow) => number) =>
    cases(
      cold.filter(row => row.shape === shape),
      kindOf,
      value,
    );
  return [
    atMost('49 at once on a fresh ENI: assign calls', 2, of('at once', assignCallsOf)),
    atMost('49 at once: slowest ÷ one assign', 1.4, of('at once', maxOverAssign)),
    atMost('49 one by one: assign calls', 5, of('one by one', assignCallsOf)),
    atMost('49 one by one: answers that waited ÷ assign calls', 1, of('one by one', waitedOverAssigns)),
    atMost('50 ENIs, 8 each at once: assign calls', 50, of('many ENIs', assignCallsOf)),
    // A request that waits for the call of another ENI waits for two.
    atMost('50 ENIs, 8 each at once: slowest ÷ one assign', 2, of('many ENIs', maxOverAssign)),
  ];
}

const startTargets = (starts: readonly StartRow[]): Target[] => [
  atMost('start to first answer ÷ no-op bundle', 2.5, cases(starts, runtimeOf, startOverNoop)),
  atMost('idle resident memory ÷ no-op bundle', 1.6, cases(starts, runtimeOf, idleOverNoop)),
];

function initTargets(inits: readonly InitRow[]): Target[] {
  const mariadb = inits.filter(row => row.store === 'mariadb');
  return [
    atMost('MariaDB, init of a /16: seconds', 2, cases(mariadb, runtimeAndEnis, secondsOf)),
    atMost('MariaDB, init of a /16: peak resident MB', 120, cases(mariadb, runtimeAndEnis, peakMbOf)),
  ];
}

/** A column: its title in two lines, and the cell of a row. Words are aligned left, numbers right. */
type Column<R> = readonly [above: string, below: string, cell: (row: R) => string];

const GAP = '  ';

const whole = (number: number): string => Math.round(number).toLocaleString('en');
const ms = (number: number): string => number.toFixed(number < 10 ? 2 : number < 100 ? 1 : 0);
const ratio = (number: number): string => number.toFixed(2);
const numberOrNone = (number: number, format: (number: number) => string): string =>
  Number.isNaN(number) ? '' : format(number);
const figure = (number: number): string =>
  Number.isInteger(number) || number >= 100 ? whole(number) : ratio(number);

const WARM: readonly Column<WarmRow>[] = [
  ['', 'store', row => row.store],
  ['', 'runtime', row => row.runtime],
  ['', 'rows', row => whole(row.rows)],
  ['', 'clients', row => whole(row.clients)],
  ['', 'calls/s', row => whole(row.callsPerSecond)],
  ['no-op', 'calls/s', row => whole(row.noopPerSecond)],
  ['', 'ratio', row => ratio(callsOverNoop(row))],
  ['', 'pairs/s', row => whole(row.callsPerSecond / 2)],
  ['durable', 'pairs/s', row => numberOrNone(row.durablePairsPerSecond ?? Number.NaN, whole)],
  ['', 'ratio', row => numberOrNone(pairsOverDurable(row), ratio)],
  ['durable', 'commits/s', row => whole(row.commitsPerSecond)],
  ['calls', '÷ it', row => ratio(callsOverCommits(row))],
  ['Request', 'p50 ms', row => ms(row.requestMs.p50)],
  ['', 'p95', row => ms(row.requestMs.p95)],
  ['', 'p99', row => ms(row.requestMs.p99)],
  ['Release', 'p50 ms', row => ms(row.releaseMs.p50)],
  ['no-op', 'p50 ms', row => ms(row.noopMs.p50)],
  ['commit', 'p50 ms', row => ms(row.commitMs.p50)],
  ['p50 ÷', 'limits', row => ratio(p50OverLimits(row))],
  ['', 'MB', row => whole(row.peakResidentMb)],
  ['EC2', 'calls', row => whole(row.ec2Calls)],
  ['given', 'twice', row => whole(row.duplicates)],
  ['', 'errors', row => whole(row.errors)],
];

const EARLY: readonly Column<EarlyRow>[] = [
  ['', 'store', row => row.store],
  ['', 'runtime', row => row.runtime],
  ['', 'clients', row => whole(row.clients)],
  ['', 'calls/s', row => whole(row.callsPerSecond)],
  ['warm', 'calls/s', row => whole(row.warm.callsPerSecond)],
  ['', 'ratio', row => ratio(callsOverWarm(row))],
  ['', 'pairs/s', row => whole(row.callsPerSecond / 2)],
  ['Request', 'p50 ms', row => ms(row.requestMs.p50)],
  ['', 'p95', row => ms(row.requestMs.p95)],
  ['', 'p99', row => ms(row.requestMs.p99)],
  ['warm', 'p50 ms', row => ms(row.warm.requestMs.p50)],
  ['p50 ÷', 'warm', row => ratio(p50OverWarm(row))],
  ['Release', 'p50 ms', row => ms(row.releaseMs.p50)],
  ['EC2', 'calls', row => whole(row.ec2Calls)],
  ['given', 'twice', row => whole(row.duplicates)],
  ['', 'errors', row => whole(row.errors)],
];

const COLD: readonly Column<ColdRow>[] = [
  ['', 'store', row => row.store],
  ['', 'runtime', row => row.runtime],
  ['', 'requests', row => row.shape],
  ['', 'ENIs', row => whole(row.enis)],
  ['', 'count', row => whole(row.requests)],
  ['', 'p50 ms', row => ms(row.p50Ms)],
  ['', 'max ms', row => ms(row.maxMs)],
  ['one', 'assign ms', row => ms(row.assignMs)],
  ['max ÷', 'assign', row => ratio(maxOverAssign(row))],
  ['assign', 'calls', row => whole(row.assignCalls)],
  ['answers', 'that waited', row => whole(row.waited)],
  ['given', 'twice', row => whole(row.duplicates)],
  ['', 'errors', row => whole(row.errors)],
];

const START: readonly Column<StartRow>[] = [
  ['', 'runtime', row => row.runtime],
  ['first', 'answer ms', row => ms(row.firstAnswerMs)],
  ['', 'no-op', row => ms(row.noopFirstAnswerMs)],
  ['', 'ratio', row => ratio(startOverNoop(row))],
  ['idle', 'MB', row => whole(row.idleResidentMb)],
  ['', 'no-op', row => whole(row.noopIdleResidentMb)],
  ['', 'ratio', row => ratio(idleOverNoop(row))],
];

const INIT: readonly Column<InitRow>[] = [
  ['', 'store', row => row.store],
  ['', 'runtime', row => row.runtime],
  ['', 'rows', row => whole(row.rows)],
  ['', 'ENIs', row => whole(row.enis)],
  ['', 'seconds', row => ratio(row.seconds)],
  ['copying', 'them', row => ratio(row.copySeconds)],
  ['', 'ratio', row => (row.seconds / row.copySeconds).toFixed(1)],
  ['peak', 'MB', row => whole(row.peakResidentMb)],
];

const TARGETS: readonly Column<Target>[] = [
  ['', 'target', row => row.name],
  ['', 'wanted', row => row.wanted],
  ['', '', row => (row.met ? 'met' : 'missed')],
  ['', 'measured', row => row.measured.map(({ label, value }) => `${label} ${figure(value)}`).join(', ')],
];

/** Returns a table for each kind of row, and one of the targets. */
export function table(rows: readonly Row[], targets: readonly Target[]): string {
  const parts = [
    part('Warm: RequestAddress and ReleaseAddress, the address ready', WARM, rowsOf(rows, 'warm')),
    part('Early reuse: the same with nothing rested on the ENI', EARLY, rowsOf(rows, 'early')),
    part('Cold: RequestAddress, no address ready', COLD, rowsOf(rows, 'cold')),
    part('Start: of the server', START, rowsOf(rows, 'start')),
    part('Init: the command on an empty store', INIT, rowsOf(rows, 'init')),
    part('Targets', TARGETS, targets),
  ];
  return parts.filter(text => text !== '').join('\n\n');
}

function part<R>(title: string, columns: readonly Column<R>[], rows: readonly R[]): string {
  if (rows.length === 0) return '';
  const body = rows.map(row => columns.map(([, , cell]) => cell(row)));
  const lines = [columns.map(([above]) => above), columns.map(([, below]) => below), ...body];
  const shown = lines.filter(cells => cells.some(cell => cell !== ''));
  const widths = columns.map((_, i) => Math.max(...shown.map(cells => cells[i]?.length ?? 0)));
  const isFigure = columns.map((_, i) => body.every(cells => /^[\d,.]*$/.test(cells[i] ?? '')));
  const aligned = shown.map(cells =>
    cells
      .map((cell, i) => (isFigure[i] ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join(GAP)
      .trimEnd(),
  );
  return [title, ...aligned].join('\n');
}
