/** What a server tells whoever watches it. Where nobody does, nothing is told: each place says `observer?.…`. */
import type { Allocation } from './allocation.ts';
import type { DriftKind } from './drift.ts';
import type { ErrorCode } from './error.ts';
import type { SubnetId } from './ids.ts';

/** `ok`, or the code of the error. */
export type Result = 'ok' | ErrorCode;

/** Each method is quick and never throws. Times are in milliseconds. */
export interface Observer {
  /** A call of Docker has ended. `path`: of the URL, as the client sent it. */
  answered(path: string, result: Result, ms: number): void;
  /** A request was sent to EC2. `action`: of its API. */
  ec2Called(action: string, result: Result, ms: number): void;
  /** From now on this says how many tokens of the action this process has. */
  tokens(action: string, left: () => number): void;
  /** A request without a name has claimed a ready address (`hit`), or there was none for it (`miss`). */
  warm(what: 'hit' | 'miss'): void;
  /** From now on this says how many ready addresses this process remembers, by whether they have rested. */
  remembers(ready: () => { readonly usable: number; readonly resting: number }): void;
  reusedEarly(): void;
  /** One transaction has made these moves. */
  committed(rows: readonly Allocation[], ms: number): void;
  /** A comparison has found a difference. */
  drifted(kind: DriftKind): void;
  /** The subnet has been compared with EC2. */
  reconciled(subnet: SubnetId): void;
}

/** Tells all of them, each what it wants to know. */
export function tellAll(all: readonly Partial<Observer>[]): Observer {
  return {
    answered: (path, result, ms) => all.forEach(one => void one.answered?.(path, result, ms)),
    ec2Called: (action, result, ms) => all.forEach(one => void one.ec2Called?.(action, result, ms)),
    tokens: (action, left) => all.forEach(one => void one.tokens?.(action, left)),
    warm: what => all.forEach(one => void one.warm?.(what)),
    remembers: ready => all.forEach(one => void one.remembers?.(ready)),
    reusedEarly: () => all.forEach(one => void one.reusedEarly?.()),
    committed: (rows, ms) => all.forEach(one => void one.committed?.(rows, ms)),
    drifted: kind => all.forEach(one => void one.drifted?.(kind)),
    reconciled: subnet => all.forEach(one => void one.reconciled?.(subnet)),
  };
}

/** Docker's calls; all other paths count as one. */
const METHODS = new Map(
  ['RequestPool', 'ReleasePool', 'RequestAddress', 'ReleaseAddress', 'GetCapabilities']
    .concat('GetDefaultAddressSpaces')
    .map(name => [`/IpamDriver.${name}`, name]),
).set('/Plugin.Activate', 'Activate');

export const methodOf = (path: string): string => METHODS.get(path) ?? 'other';
