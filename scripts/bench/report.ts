/** The report: the rows as tables, and the targets that they meet or miss. A target is a ratio within one
 *  run where that is possible, since a ratio means the same on every machine. */
import {
  type BesideRow,
  type ColdRow,
  type InitRow,
  PAGES,
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
  readonly measured: readonly { readonly label: string; readonly value: number }[];
  /** In every case. */
  readonly met: boolean;
}

const callsOverNoop = (row: WarmRow) => row.callsPerSecond / row.noopPerSecond;
const callsOverCommits = (row: WarmRow) => row.callsPerSecond / row.commitsPerSecond;
/** Pairs of the server for each pair of the database alone. NaN: SQLite. */
const pairsOverDurable = (row: WarmRow) => row.callsPerSecond / 2 / (row.durablePairsPerSecond ?? Number.NaN);
const p50OverLimits = (row: WarmRow) => row.requestMs.p50 / (row.commitMs.p50 + row.noopMs.p50);
const p99OverP50 = ({ requestMs }: WarmRow) => requestMs.p99 / requestMs.p50;
const callsOverWarm = (row: BesideRow) => row.callsPerSecond / row.warm.callsPerSecond;
const p50OverWarm = (row: BesideRow) => row.requestMs.p50 / row.warm.requestMs.p50;
/** What the history costs: its warm row has one. */
const callsWithHistory = (row: BesideRow) => row.warm.callsPerSecond / row.callsPerSecond;
const msForHistory = (row: BesideRow) => row.warm.requestMs.p50 - row.requestMs.p50;
/** What open pages add to the longest turn of the event loop. NaN: not measured. */
const turnMsForPages = (row: BesideRow) =>
  (row.longestTurnMs ?? Number.NaN) - (row.warm.longestTurnMs ?? Number.NaN);
const maxOverAssign = (row: ColdRow) => row.maxMs / row.assignMs;
const waitedOverAssigns = (row: ColdRow) => row.waited / row.assignCalls;
const startOverNoop = (row: StartRow) => row.firstAnswerMs / row.noopFirstAnswerMs;
const idleOverNoop = (row: StartRow) => row.idleResidentMb / row.noopIdleResidentMb;

/** A case for each row, named by some of its columns. Met if each is at most (≤) or at least (≥) the number. */
function target<R>(
  wanted: `${'≤' | '≥'} ${number}`,
  name: string,
  rows: readonly R[],
  labels: readonly (keyof R)[],
  figureOf: (row: R) => number,
): Target {
  const limit = Number(wanted.slice(2));
  const measured = rows.map(row => ({ label: labels.map(one => row[one]).join(' '), value: figureOf(row) }));
  const isMet = (value: number) => (wanted.startsWith('≤') ? value <= limit : value >= limit);
  return { what: 'target', name, wanted, measured, met: measured.every(({ value }) => isMet(value)) };
}

/** Returns the targets that the rows can answer. */
export function targetsOf(rows: readonly Row[]): Target[] {
  const all = [
    ...loadTargets(rowsOf(rows, 'warm'), rowsOf(rows, 'early'), rowsOf(rows, 'pages'), rowsOf(rows, 'cold')),
    ...warmTargets(rowsOf(rows, 'warm')),
    ...historyTargets(rowsOf(rows, 'no history')),
    ...coldTargets(rowsOf(rows, 'cold')),
    ...processTargets(rowsOf(rows, 'start'), rowsOf(rows, 'init')),
  ];
  return all.filter(({ measured }) => measured.length > 0);
}

function loadTargets(
  warm: readonly WarmRow[],
  early: readonly BesideRow[],
  pages: readonly BesideRow[],
  cold: readonly ColdRow[],
): Target[] {
  const kinds = [warm, early, pages, cold].filter(rows => rows.length > 0);
  const totals = kinds.map(rows => ({
    what: rows[0]?.what,
    duplicates: sum(rows.map(row => row.duplicates)),
    errors: sum(rows.map(row => row.errors)),
  }));
  const row = ['store', 'runtime', 'clients'] as const;
  return [
    target('≤ 0', 'addresses given twice', totals, ['what'], total => total.duplicates),
    target('≤ 0', 'errors as answers', totals, ['what'], total => total.errors),
    // An early reuse costs one commit, as a warm start does, and a line in the log.
    target('≤ 1.5', 'nothing rested on the ENI: RequestAddress p50 ÷ warm', early, row, p50OverWarm),
    target('≥ 0.6', 'nothing rested on the ENI: calls/s ÷ warm', early, row, callsOverWarm),
    target(
      '≤ 10',
      `${PAGES} maps open: more ms of CPU in the longest turn of the event loop`,
      pages.filter(({ longestTurnMs }) => longestTurnMs !== null),
      row,
      turnMsForPages,
    ),
  ];
}

function warmTargets(warm: readonly WarmRow[]): Target[] {
  const small = warm.filter(({ rows }) => rows === ROW_COUNTS['4k']);
  const of = (store: WarmRow['store'], ...clients: number[]) =>
    small.filter(row => row.store === store && clients.includes(row.clients));
  const of1 = small.filter(({ clients }) => clients === 1);
  const of200 = warm.filter(({ clients }) => clients === 200);
  const at50 = of('mariadb', 50);
  const over50 = of('mariadb', 200).flatMap(({ runtime, callsPerSecond }) => {
    const fewer = at50.find(row => row.runtime === runtime);
    return fewer === undefined ? [] : [{ runtime, value: callsPerSecond / fewer.callsPerSecond }];
  });
  const many = of('mariadb', 50, 200);
  const kind = ['store', 'runtime'] as const;
  const kindAndRows = ['store', 'runtime', 'rows'] as const;
  return [
    target('≤ 0', 'EC2 calls of warm starts', warm, [...kindAndRows, 'clients'], row => row.ec2Calls),
    target('≤ 2', '1 client: RequestAddress p50 ÷ (commit p50 + no-op p50)', of1, kind, p50OverLimits),
    target('≥ 0.55', 'MariaDB, 50 clients: calls/s ÷ no-op calls/s', at50, ['runtime'], callsOverNoop),
    target('≥ 2', 'MariaDB, 50 clients: pairs/s ÷ durable pairs/s', at50, ['runtime'], pairsOverDurable),
    target('≥ 1', 'MariaDB: calls/s of 200 clients ÷ of 50', over50, ['runtime'], row => row.value),
    target('≤ 5', 'MariaDB: RequestAddress p99 ÷ p50', many, ['runtime', 'clients'], p99OverP50),
    target('≥ 1', 'SQLite, 50 clients: calls/s ÷ commits/s', of('sqlite', 50), kind, callsOverCommits),
    target('≤ 160', '200 clients: resident MB', of200, kindAndRows, row => row.peakResidentMb),
    target(
      '≥ 0.9',
      'calls/s at 65,536 rows ÷ at 4,096',
      largeOverSmall(warm, small),
      ['kind'],
      row => row.ratio,
    ),
  ];
}

function historyTargets(without: readonly BesideRow[]): Target[] {
  const of = (count: number) => without.filter(({ clients }) => clients === count);
  const kind = ['store', 'runtime'] as const;
  return [
    target('≤ 0.1', 'the history, 1 client: more ms of RequestAddress p50', of(1), kind, msForHistory),
    target('≥ 0.75', 'the history, 50 clients: calls/s ÷ without it', of(50), kind, callsWithHistory),
  ];
}

/** Returns the geometric mean over all numbers of clients, since single rows vary too much. */
function largeOverSmall(warm: readonly WarmRow[], small: readonly WarmRow[]) {
  const pairs = small.flatMap(row => {
    const { store, runtime, clients } = row;
    const large = warm.find(
      other =>
        other.rows === ROW_COUNTS['65k'] &&
        other.store === store &&
        other.runtime === runtime &&
        other.clients === clients,
    );
    if (large === undefined) return [];
    return [{ store, runtime, log: Math.log(large.callsPerSecond / row.callsPerSecond) }];
  });
  const kinds = Map.groupBy(pairs, ({ store, runtime }) => `${store} ${runtime}`);
  return [...kinds].map(([kind, all]) => ({
    kind,
    ratio: Math.exp(sum(all.map(({ log }) => log)) / all.length),
  }));
}

function coldTargets(cold: readonly ColdRow[]): Target[] {
  const of = (shape: ColdRow['shape']) => cold.filter(row => row.shape === shape);
  const [atOnce, oneByOne, many] = [of('at once'), of('one by one'), of('many ENIs')];
  const kind = ['store', 'runtime'] as const;
  return [
    target('≤ 2', '49 at once on a fresh ENI: assign calls', atOnce, kind, row => row.assignCalls),
    target('≤ 1.4', '49 at once: slowest ÷ one assign', atOnce, kind, maxOverAssign),
    target('≤ 5', '49 one by one: assign calls', oneByOne, kind, row => row.assignCalls),
    target('≤ 1', '49 one by one: answers that waited ÷ assign calls', oneByOne, kind, waitedOverAssigns),
    target('≤ 50', '50 ENIs, 8 each at once: assign calls', many, kind, row => row.assignCalls),
    // A request that waits for the call of another ENI waits for two.
    target('≤ 2', '50 ENIs, 8 each at once: slowest ÷ one assign', many, kind, maxOverAssign),
  ];
}

function processTargets(starts: readonly StartRow[], inits: readonly InitRow[]): Target[] {
  const mariadb = inits.filter(({ store }) => store === 'mariadb');
  const init = ['runtime', 'enis'] as const;
  return [
    target('≤ 2.5', 'start to first answer ÷ no-op bundle', starts, ['runtime'], startOverNoop),
    target('≤ 1.6', 'idle resident memory ÷ no-op bundle', starts, ['runtime'], idleOverNoop),
    target('≤ 2', 'MariaDB, init of a /16, by ENIs: seconds', mariadb, init, row => row.seconds),
    target('≤ 120', 'MariaDB, init of a /16, by ENIs: peak MB', mariadb, init, row => row.peakResidentMb),
  ];
}

/** A column: its title in two lines, and the cell of a row. Words are aligned left, numbers right. */
type Column<R> = readonly [above: string, below: string, cell: (row: R) => string];

const GAP = '  ';

const whole = (number: number): string => Math.round(number).toLocaleString('en');
const ms = (number: number): string => number.toFixed(number < 10 ? 2 : number < 100 ? 1 : 0);
const ratio = (number: number): string => (Number.isNaN(number) ? '' : number.toFixed(2));
const figure = (number: number): string =>
  Number.isInteger(number) || number >= 100 ? whole(number) : ratio(number);

const RUNTIME: Column<Row> = ['', 'runtime', row => row.runtime];
const STORE: Column<Exclude<Row, StartRow>> = ['', 'store', row => row.store];
const WRONG: readonly Column<WarmRow | BesideRow | ColdRow>[] = [
  ['given', 'twice', row => whole(row.duplicates)],
  ['', 'errors', row => whole(row.errors)],
];
const LOAD: readonly Column<WarmRow | BesideRow>[] = [
  ['', 'clients', row => whole(row.clients)],
  ['Request', 'p50 ms', row => ms(row.requestMs.p50)],
  ['', 'p95', row => ms(row.requestMs.p95)],
  ['', 'p99', row => ms(row.requestMs.p99)],
  ['Release', 'p50 ms', row => ms(row.releaseMs.p50)],
  ['EC2', 'calls', row => whole(row.ec2Calls)],
  ...WRONG,
  ['', 'pairs/s', row => whole(row.callsPerSecond / 2)],
  ['', 'calls/s', row => whole(row.callsPerSecond)],
];

const WARM: readonly Column<WarmRow>[] = [
  STORE,
  RUNTIME,
  ['', 'rows', row => whole(row.rows)],
  ...LOAD,
  ['no-op', 'calls/s', row => whole(row.noopPerSecond)],
  ['', 'ratio', row => ratio(callsOverNoop(row))],
  ['durable', 'commits/s', row => whole(row.commitsPerSecond)],
  ['calls', '÷ it', row => ratio(callsOverCommits(row))],
  ['durable', 'pairs/s', row => (row.durablePairsPerSecond === null ? '' : whole(row.durablePairsPerSecond))],
  ['', 'ratio', row => ratio(pairsOverDurable(row))],
  ['no-op', 'p50 ms', row => ms(row.noopMs.p50)],
  ['commit', 'p50 ms', row => ms(row.commitMs.p50)],
  ['p50 ÷', 'limits', row => ratio(p50OverLimits(row))],
  ['', 'MB', row => whole(row.peakResidentMb)],
];

const BESIDE: readonly Column<BesideRow>[] = [
  STORE,
  RUNTIME,
  ...LOAD,
  ['warm', 'calls/s', row => whole(row.warm.callsPerSecond)],
  ['', 'ratio', row => ratio(callsOverWarm(row))],
  ['warm', 'p50 ms', row => ms(row.warm.requestMs.p50)],
  ['p50 ÷', 'warm', row => ratio(p50OverWarm(row))],
];

const turnMs = (number: number | null): string => (number === null ? '' : ms(number));
const PAGES_OPEN: readonly Column<BesideRow>[] = [
  ...BESIDE,
  ['longest', 'turn ms', row => turnMs(row.longestTurnMs)],
  ['', 'warm', row => turnMs(row.warm.longestTurnMs)],
];

const NO_HISTORY: readonly Column<BesideRow>[] = [
  STORE,
  RUNTIME,
  ...LOAD,
  ['with it', 'calls/s', row => whole(row.warm.callsPerSecond)],
  ['', 'ratio', row => ratio(callsWithHistory(row))],
  ['Request', 'p50 ms', row => ms(row.warm.requestMs.p50)],
  ['Release', 'p50 ms', row => ms(row.warm.releaseMs.p50)],
];

const COLD: readonly Column<ColdRow>[] = [
  STORE,
  RUNTIME,
  ['', 'requests', row => row.shape],
  ['', 'ENIs', row => whole(row.enis)],
  ['', 'count', row => whole(row.requests)],
  ['', 'p50 ms', row => ms(row.p50Ms)],
  ['', 'max ms', row => ms(row.maxMs)],
  ['one', 'assign ms', row => ms(row.assignMs)],
  ['max ÷', 'assign', row => ratio(maxOverAssign(row))],
  ['assign', 'calls', row => whole(row.assignCalls)],
  ['answers', 'that waited', row => whole(row.waited)],
  ...WRONG,
];

const START: readonly Column<StartRow>[] = [
  RUNTIME,
  ['first', 'answer ms', row => ms(row.firstAnswerMs)],
  ['', 'no-op', row => ms(row.noopFirstAnswerMs)],
  ['', 'ratio', row => ratio(startOverNoop(row))],
  ['idle', 'MB', row => whole(row.idleResidentMb)],
  ['', 'no-op', row => whole(row.noopIdleResidentMb)],
  ['', 'ratio', row => ratio(idleOverNoop(row))],
];

const INIT: readonly Column<InitRow>[] = [
  STORE,
  RUNTIME,
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
    part('Early reuse: the same with nothing rested on the ENI', BESIDE, rowsOf(rows, 'early')),
    part(`Pages: the same with ${PAGES} maps open`, PAGES_OPEN, rowsOf(rows, 'pages')),
    part('History off: the same, beside the warm rows', NO_HISTORY, rowsOf(rows, 'no history')),
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
