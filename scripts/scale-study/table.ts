/** The phases of the study as people and programs read them. */
import { EC2_MS_MIN } from './site.ts';
import type { Phase } from './tally.ts';

export interface Row {
  readonly phase: string;
  readonly starts: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** The part of the starts that waited for EC2. */
  readonly waited: number;
  readonly assigns: number;
  readonly unassigns: number;
  /** Addresses that those put on ENIs, and took off them. */
  readonly assigned: number;
  readonly unassigned: number;
  readonly reads: number;
  /** The part that they are of what EC2 lets the account read in the long run, by the API that is used most. */
  readonly readShare: number;
  /** Of a ledger that servers share, a second. */
  readonly ledgerCalls: number;
  readonly ledgerRows: number;
  readonly callsPerStart: number;
  readonly throttles: number;
  readonly earlyReuses: number;
  readonly errors: number;
}

/** https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html: of each API. */
const READS_PER_SECOND = 20;

export function rowOf({ name, lastsMs, counts }: Phase): Row {
  const sorted = Float64Array.from(counts.latenciesMs).sort();
  const starts = sorted.length;
  const at = (part: number) => sorted[Math.min(Math.floor(part * starts), starts - 1)] ?? 0;
  const perSecond = (many: number) => many / (lastsMs / 1000);
  const reads = [...counts.reads.values()].reduce((sum, many) => sum + many, 0);
  const calls = counts.assigns + counts.unassigns + reads;
  return {
    phase: name,
    starts,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    maxMs: at(1),
    waited: starts === 0 ? 0 : sorted.filter(ms => ms >= EC2_MS_MIN).length / starts,
    assigns: counts.assigns,
    unassigns: counts.unassigns,
    assigned: counts.assigned,
    unassigned: counts.unassigned,
    reads,
    readShare: perSecond(Math.max(0, ...counts.reads.values())) / READS_PER_SECOND,
    ledgerCalls: perSecond(counts.ledgerCalls),
    ledgerRows: perSecond(counts.ledgerRows),
    callsPerStart: starts === 0 ? 0 : calls / starts,
    throttles: counts.throttles,
    earlyReuses: counts.earlyReuses,
    errors: [...counts.errors.values()].reduce((sum, times) => sum + times, 0),
  };
}

const HEAD = [
  'phase',
  'starts',
  'p50 ms',
  'p99 ms',
  'max ms',
  'waited for EC2',
  'assign',
  'unassign',
  'describe',
  "of the account's reads",
  'EC2 calls per start',
  'throttled',
  'early reuses',
  'errors',
  'ledger calls/s',
  'ledger rows/s',
];

/** A Markdown table. */
export function tableOf(rows: readonly Row[]): string {
  const cells = rows.map(row => [
    row.phase,
    ...[row.starts, row.p50Ms, row.p99Ms, row.maxMs].map(grouped),
    `${(100 * row.waited).toFixed(2)} %`,
    ...[row.assigns, row.unassigns, row.reads].map(grouped),
    `${(100 * row.readShare).toFixed(1)} %`,
    row.callsPerStart.toFixed(3),
    ...[row.throttles, row.earlyReuses, row.errors].map(grouped),
    ...[row.ledgerCalls, row.ledgerRows].map(Math.round).map(grouped),
  ]);
  const widths = HEAD.map((head, i) => Math.max(head.length, ...cells.map(line => line[i]?.length ?? 0)));
  const line = (texts: readonly string[]) => {
    const [first = '', ...others] = texts;
    const padded = others.map((text, i) => text.padStart(widths[i + 1] ?? 0));
    return `| ${[first.padEnd(widths[0] ?? 0), ...padded].join(' | ')} |`;
  };
  const rule = line(widths.map((width, i) => (i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)));
  return [line(HEAD), rule, ...cells.map(line)].join('\n');
}

/** 1234567 as 1,234,567. */
const grouped = (number: number): string => String(number).replace(/\B(?=(\d{3})+$)/g, ',');
