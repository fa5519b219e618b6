/** The rows and the targets as a person reads them. */
import type { ColdRow, EarlyRow, InitRow, Row, StartRow, WarmRow } from './rows.ts';
import type { Target } from './target.ts';
import { pairsRatio } from './warm-targets.ts';

/** A column: its title in two lines, and what it shows of a row. Words go left, figures right. */
type Column<R> = readonly [above: string, below: string, cell: (row: R) => string];

const GAP = '  ';

const whole = (number: number): string => Math.round(number).toLocaleString('en');
const ms = (number: number): string => number.toFixed(number < 10 ? 2 : number < 100 ? 1 : 0);
const ratio = (number: number): string => number.toFixed(2);

const WARM: readonly Column<WarmRow>[] = [
  ['', 'store', row => row.store],
  ['', 'runtime', row => row.runtime],
  ['', 'rows', row => whole(row.rows)],
  ['', 'clients', row => whole(row.clients)],
  ['', 'calls/s', row => whole(row.callsPerSecond)],
  ['no-op', 'calls/s', row => whole(row.noopPerSecond)],
  ['', 'ratio', row => ratio(row.callsPerSecond / row.noopPerSecond)],
  ['', 'pairs/s', row => whole(row.callsPerSecond / 2)],
  ['durable', 'pairs/s', row => (row.durablePairsPerSecond === null ? '' : whole(row.durablePairsPerSecond))],
  ['', 'ratio', row => optional(pairsRatio(row))],
  ['durable', 'commits/s', row => whole(row.commitsPerSecond)],
  ['calls', '÷ it', row => ratio(row.callsPerSecond / row.commitsPerSecond)],
  ['Request', 'p50 ms', row => ms(row.requestMs.p50)],
  ['', 'p95', row => ms(row.requestMs.p95)],
  ['', 'p99', row => ms(row.requestMs.p99)],
  ['Release', 'p50 ms', row => ms(row.releaseMs.p50)],
  ['no-op', 'p50 ms', row => ms(row.noopMs.p50)],
  ['commit', 'p50 ms', row => ms(row.commitMs.p50)],
  ['p50 ÷', 'limits', row => ratio(row.requestMs.p50 / (row.noopMs.p50 + row.commitMs.p50))],
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
  ['', 'ratio', row => ratio(row.callsPerSecond / row.warm.callsPerSecond)],
  ['', 'pairs/s', row => whole(row.callsPerSecond / 2)],
  ['Request', 'p50 ms', row => ms(row.requestMs.p50)],
  ['', 'p95', row => ms(row.requestMs.p95)],
  ['', 'p99', row => ms(row.requestMs.p99)],
  ['warm', 'p50 ms', row => ms(row.warm.requestMs.p50)],
  ['p50 ÷', 'warm', row => ratio(row.requestMs.p50 / row.warm.requestMs.p50)],
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
  ['max ÷', 'assign', row => ratio(row.maxMs / row.assignMs)],
  ['assign', 'calls', row => whole(row.assignCalls)],
  ['answers', 'that waited', row => whole(row.waited)],
  ['given', 'twice', row => whole(row.duplicates)],
  ['', 'errors', row => whole(row.errors)],
];

const START: readonly Column<StartRow>[] = [
  ['', 'runtime', row => row.runtime],
  ['first', 'answer ms', row => ms(row.firstAnswerMs)],
  ['', 'no-op', row => ms(row.noopFirstAnswerMs)],
  ['', 'ratio', row => ratio(row.firstAnswerMs / row.noopFirstAnswerMs)],
  ['idle', 'MB', row => whole(row.idleResidentMb)],
  ['', 'no-op', row => whole(row.noopIdleResidentMb)],
  ['', 'ratio', row => ratio(row.idleResidentMb / row.noopIdleResidentMb)],
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

const optional = (number: number | null): string => (number === null ? '' : ratio(number));
const figure = (number: number): string =>
  Number.isInteger(number) ? whole(number) : number >= 100 ? whole(number) : ratio(number);

/** All rows by kind, each kind with its own columns, and the targets below. */
export function table(rows: readonly Row[], targets: readonly Target[]): string {
  const parts = [
    part('Warm: RequestAddress and ReleaseAddress, the address ready', WARM, of(rows, 'warm')),
    part('Early reuse: the same with nothing rested on the ENI', EARLY, of(rows, 'early')),
    part('Cold: RequestAddress, no address ready', COLD, of(rows, 'cold')),
    part('Start: of the server', START, of(rows, 'start')),
    part('Init: the command on an empty store', INIT, of(rows, 'init')),
    part('Targets', TARGETS, targets),
  ];
  return parts.filter(text => text !== '').join('\n\n');
}

const of = <W extends Row['what']>(rows: readonly Row[], what: W) =>
  rows.filter((row): row is Extract<Row, { what: W }> => row.what === what);

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
