/** Counters of each phase, and the table made of them. */
import type { LogLevel } from '../../src/domain/log.ts';

export const newCounts = () => ({
  /** How long each container waited for its address, in milliseconds. */
  latenciesMs: [] as number[],
  assigns: 0,
  unassigns: 0,
  /** Addresses that those calls put on ENIs, and took off them. */
  assigned: 0,
  unassigned: 0,
  /** Reads of EC2, by their action. */
  reads: new Map<string, number>(),
  /** Calls of a ledger that servers share, and the rows that those returned. */
  ledgerCalls: 0,
  ledgerRows: 0,
  throttles: 0,
  earlyReuses: 0,
  /** Errors that containers got instead of an address, and how often. */
  errors: new Map<string, number>(),
  /** Warnings of the servers, and how often they came. */
  warnings: new Map<string, number>(),
  /** An address was given while somebody held it. */
  duplicates: 0,
  /** An address was given that EC2 does not deliver to that host. */
  dead: 0,
});

export interface Phase {
  readonly name: string;
  readonly lastsMs: number;
  readonly counts: ReturnType<typeof newCounts>;
}

export type Tally = ReturnType<typeof createTally>;
export function createTally() {
  let now = newCounts();
  return {
    /** Starts a phase: what is counted from now on belongs to it. */
    begin(name: string, lastsMs: number): Phase {
      now = newCounts();
      return { name, lastsMs, counts: now };
    },
    get now() {
      return now;
    },
    called(action: string) {
      if (action === 'AssignPrivateIpAddresses') now.assigns++;
      else if (action === 'UnassignPrivateIpAddresses') now.unassigns++;
      else count(now.reads, action);
    },
    asked(rows: number) {
      now.ledgerCalls++;
      now.ledgerRows += rows;
    },
    logged(level: LogLevel, message: string, { error, ips }: Readonly<Record<string, unknown>>) {
      const addresses = Array.isArray(ips) && error === undefined ? ips.length : 0;
      if (message === 'assigned') now.assigned += addresses;
      if (message === 'unassigned') now.unassigned += addresses;
      if (message === 'early reuse') now.earlyReuses++;
      else if (level === 'warn' || level === 'error')
        count(now.warnings, error === undefined ? message : `${message}: ${error}`);
    },
  };
}

/** Counts the message, without what differs from one host to the next. */
export function count(map: Map<string, number>, message: string): void {
  const text = message
    .replaceAll(/\b(eni|i)-[0-9a-f]+\b/g, '$1-…')
    .replaceAll(/\b\d+\.\d+\.\d+\.\d+\b/g, 'IP');
  map.set(text, (map.get(text) ?? 0) + 1);
}
const sumOf = (map: ReadonlyMap<string, number>): number => [...map.values()].reduce((a, b) => a + b, 0);

/** A start that waited for EC2 took at least so long. */
export const EC2_MS_MIN = 70;
/** https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html: of each API. */
const READS_PER_SECOND = 20;

export type Row = ReturnType<typeof rowOf>;
export function rowOf({ name, lastsMs, counts }: Phase) {
  const sorted = Float64Array.from(counts.latenciesMs).sort();
  const starts = sorted.length;
  const at = (part: number) => sorted[Math.min(Math.floor(part * starts), starts - 1)] ?? 0;
  const perSecond = (many: number) => many / (lastsMs / 1000);
  const perStart = (many: number) => (starts === 0 ? 0 : many / starts);
  const { assigns, unassigns, assigned, unassigned, throttles, earlyReuses } = counts;
  const reads = sumOf(counts.reads);
  return {
    phase: name,
    starts,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    maxMs: at(1),
    /** The part of the starts that waited for EC2. */
    waited: perStart(sorted.filter(ms => ms >= EC2_MS_MIN).length),
    assigns,
    unassigns,
    assigned,
    unassigned,
    reads,
    /** The reads of the most used API as a part of what EC2 allows the account in the long run. */
    readShare: perSecond(Math.max(0, ...counts.reads.values())) / READS_PER_SECOND,
    ledgerCalls: perSecond(counts.ledgerCalls),
    ledgerRows: perSecond(counts.ledgerRows),
    callsPerStart: perStart(assigns + unassigns + reads),
    throttles,
    earlyReuses,
    errors: sumOf(counts.errors),
  };
}

/** 1234567 as 1,234,567. */
export const grouped = (number: number): string => number.toLocaleString('en-US');
const whole = (number: number): string => grouped(Math.round(number));
const percent = (digits: number) => (part: number) => `${(100 * part).toFixed(digits)} %`;

const COLUMNS: readonly [head: string, of: keyof Omit<Row, 'phase'>, shown: (number: number) => string][] = [
  ['starts', 'starts', whole],
  ['p50 ms', 'p50Ms', whole],
  ['p99 ms', 'p99Ms', whole],
  ['max ms', 'maxMs', whole],
  ['waited for EC2', 'waited', percent(2)],
  ['assign', 'assigns', whole],
  ['unassign', 'unassigns', whole],
  ['describe', 'reads', whole],
  ["of the account's reads", 'readShare', percent(1)],
  ['EC2 calls per start', 'callsPerStart', number => number.toFixed(3)],
  ['throttled', 'throttles', whole],
  ['early reuses', 'earlyReuses', whole],
  ['errors', 'errors', whole],
  ['ledger calls/s', 'ledgerCalls', whole],
  ['ledger rows/s', 'ledgerRows', whole],
];

/** A Markdown table. */
export function tableOf(rows: readonly Row[]): string {
  const lines = [
    ['phase', ...COLUMNS.map(([head]) => head)],
    ...rows.map(row => [row.phase, ...COLUMNS.map(([, of, shown]) => shown(row[of]))]),
  ];
  const widths = (lines[0] ?? []).map((_, i) => Math.max(...lines.map(line => line[i]?.length ?? 0)));
  const padded = lines.map(line =>
    line.map((text, i) => (i === 0 ? text.padEnd(widths[0] ?? 0) : text.padStart(widths[i] ?? 0))),
  );
  const rule = widths.map((width, i) => (i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return padded
    .toSpliced(1, 0, rule)
    .map(line => `| ${line.join(' | ')} |`)
    .join('\n');
}
