/** What is counted, phase by phase. */
import type { LogLevel } from '../../src/domain/log.ts';

export interface Counts {
  /** How long each container waited for its address, in milliseconds. */
  readonly latenciesMs: number[];
  assigns: number;
  unassigns: number;
  /** Addresses that those calls put on ENIs, and took off them. */
  assigned: number;
  unassigned: number;
  /** Reads of EC2, by their action. */
  readonly reads: Map<string, number>;
  /** Calls of a ledger that servers share, and the rows that those answered. */
  ledgerCalls: number;
  ledgerRows: number;
  throttles: number;
  earlyReuses: number;
  /** What containers were told instead of an address, and how often. */
  readonly errors: Map<string, number>;
  /** Warnings of the servers, and how often they came. */
  readonly warnings: Map<string, number>;
  /** An address was given while somebody held it. */
  duplicates: number;
  /** An address was given that EC2 does not deliver to that host. */
  dead: number;
}

export interface Phase {
  readonly name: string;
  readonly lastsMs: number;
  readonly counts: Counts;
}

export interface Tally {
  /** From now on everything counts for a phase of this name, which lasts so long. */
  begin(name: string, lastsMs: number): Phase;
  readonly now: Counts;
  called(action: string): void;
  throttled(): void;
  asked(rows: number): void;
  logged(level: LogLevel, message: string, fields: Readonly<Record<string, unknown>>): void;
}

export const newCounts = (): Counts => ({
  latenciesMs: [],
  assigns: 0,
  unassigns: 0,
  assigned: 0,
  unassigned: 0,
  reads: new Map(),
  ledgerCalls: 0,
  ledgerRows: 0,
  throttles: 0,
  earlyReuses: 0,
  errors: new Map(),
  warnings: new Map(),
  duplicates: 0,
  dead: 0,
});

export function newTally(): Tally {
  let now = newCounts();
  return {
    begin(name, lastsMs) {
      now = newCounts();
      return { name, lastsMs, counts: now };
    },
    get now() {
      return now;
    },
    called(action) {
      if (action === 'AssignPrivateIpAddresses') now.assigns++;
      else if (action === 'UnassignPrivateIpAddresses') now.unassigns++;
      else count(now.reads, action);
    },
    throttled: () => void now.throttles++,
    asked(rows) {
      now.ledgerCalls++;
      now.ledgerRows += rows;
    },
    logged(level, message, { error, ips }) {
      const addresses = Array.isArray(ips) && error === undefined ? ips.length : 0;
      if (message === 'assign') now.assigned += addresses;
      if (message === 'unassign') now.unassigned += addresses;
      if (message === 'early reuse') now.earlyReuses++;
      else if (level === 'warn' || level === 'error')
        count(now.warnings, withoutNames(error === undefined ? message : `${message}: ${error}`));
    },
  };
}

export const count = (map: Map<string, number>, key: string): void =>
  void map.set(key, (map.get(key) ?? 0) + 1);

/** A message without what differs from one host to the next. */
export const withoutNames = (message: string): string =>
  message.replaceAll(/\b(eni|i)-[0-9a-f]+\b/g, '$1-…').replaceAll(/\b\d+\.\d+\.\d+\.\d+\b/g, 'IP');
