/** Faults that a test sets: delays, refusals, lost responses, late writes and old reads. */
import type { EniId } from '../../domain/ids.ts';

interface Answered {
  readonly code?: string;
  readonly message?: string;
}

type FaultKind =
  /** The response is delayed; the call is applied at once. */
  | { readonly kind: 'latency'; readonly ms: number }
  /** Refused, and not applied. */
  | { readonly kind: 'error'; readonly code: string; readonly message: string }
  /** Refused with RequestLimitExceeded. */
  | { readonly kind: 'throttle' }
  /** Applied; then the connection is closed without a response, or the response is this error. */
  | ({ readonly kind: 'lostReply' } & Answered)
  /** No response, and not applied. */
  | { readonly kind: 'hang' }
  /** No response, and applied so much later. */
  | ({ readonly kind: 'applyLate'; readonly ms: number } & Answered)
  /** A read returns the state of so long ago. */
  | { readonly kind: 'readLag'; readonly ms: number };

export type Fault = FaultKind & {
  /** The EC2 action it strikes; absent: any. */
  readonly action?: string;
  /** The ENI whose calls it strikes; absent: any. */
  readonly eni?: EniId;
  /** How many calls it strikes; absent: all. */
  readonly times?: number;
  /** The probability that it strikes a call, 0 to 1; absent: 1. */
  readonly chance?: number;
};

/** The faults of one call: the delay of the response, the age of a read, and at most one of the other kinds. */
export interface Struck {
  readonly latencyMs: number;
  readonly readLagMs: number;
  readonly fault: Exclude<FaultKind, { kind: 'latency' | 'readLag' }> | null;
}

const FAULTS_MAX = 1000;
/** The `action` of faults of instance metadata. Their `code` is the HTTP status and their `message` the body. */
export const METADATA = 'InstanceMetadata';

export interface Faults {
  /** The faults that are set, each with the number of calls that it still strikes. */
  readonly list: Fault[];
  /** Sets a fault behind those that are set. Throws RangeError past FAULTS_MAX. */
  add(fault: Fault): void;
  clear(): void;
  /** The faults of one call. A fault without an action does not strike instance metadata. */
  strike(action: string, eni: EniId | null): Struck;
}

export function createFaults(random: () => number): Faults {
  let waiting: { fault: Fault; left: number }[] = [];
  const strikes = ({ action: only, eni: onlyEni, chance }: Fault, action: string, eni: EniId | null) =>
    (only ?? (action === METADATA ? null : action)) === action &&
    (onlyEni === undefined || onlyEni === eni) &&
    (chance === undefined || random() < chance);
  return {
    get list() {
      return waiting.map(({ fault, left }) =>
        left === Number.POSITIVE_INFINITY ? fault : { ...fault, times: left },
      );
    },
    add(fault) {
      if (waiting.length >= FAULTS_MAX) throw new RangeError(`more than ${FAULTS_MAX} faults are set`);
      waiting.push({ fault, left: fault.times ?? Number.POSITIVE_INFINITY });
    },
    clear() {
      waiting = [];
    },
    strike(action, eni) {
      let latencyMs = 0;
      let readLagMs = 0;
      let struck: Struck['fault'] = null;
      for (const one of waiting) {
        const { fault } = one;
        if ((isExclusive(fault) && struck !== null) || !strikes(fault, action, eni)) continue;
        one.left--;
        if (fault.kind === 'latency') latencyMs += fault.ms;
        else if (fault.kind === 'readLag') readLagMs = Math.max(readLagMs, fault.ms);
        else struck = fault;
      }
      waiting = waiting.filter(({ left }) => left > 0);
      return { latencyMs, readLagMs, fault: struck };
    },
  };
}

const isExclusive = (fault: Fault): boolean => fault.kind !== 'latency' && fault.kind !== 'readLag';
