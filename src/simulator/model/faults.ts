import type { EniId } from '../../domain/ids.ts';

interface Answered {
  readonly code?: string;
  readonly message?: string;
}

/** Something that goes wrong, on purpose. */
type FaultKind =
  /** The answer is this late; the call is applied when it comes in. */
  | { readonly kind: 'latency'; readonly ms: number }
  /** Refused, and not applied. */
  | { readonly kind: 'error'; readonly code: string; readonly message: string }
  /** Refused with RequestLimitExceeded. */
  | { readonly kind: 'throttle' }
  /** Applied, then the connection drops without an answer, or the answer is an error all the same. */
  | ({ readonly kind: 'lostReply' } & Answered)
  /** Never answered, and not applied. */
  | { readonly kind: 'hang' }
  /** The same, but the call is applied this much later. */
  | ({ readonly kind: 'applyLate'; readonly ms: number } & Answered)
  /** Reads show what was so this long ago. */
  | { readonly kind: 'readLag'; readonly ms: number };

export type Fault = FaultKind & {
  /** The EC2 action it strikes; absent: any. */
  readonly action?: string;
  /** The ENI whose calls it strikes; absent: any. */
  readonly eni?: EniId;
  /** How many calls it strikes; absent: all from now on. */
  readonly times?: number;
  /** The part of the calls it strikes, 0 to 1; absent: all. */
  readonly chance?: number;
};

/** What strikes one call: how late its answer is, how late a read, and at most one of the rest. */
export interface Struck {
  readonly latencyMs: number;
  readonly readLagMs: number;
  readonly fault: Exclude<FaultKind, { kind: 'latency' | 'readLag' }> | null;
}

const FAULTS_MAX = 1000;
/** The `action` of faults that strike instance metadata. For them `code` is HTTP's status, and `message` the body. */
export const METADATA = 'InstanceMetadata';

/** The faults that wait for their calls, in the order in which they were set. */
export class Faults {
  readonly #random: () => number;
  #waiting: { fault: Fault; left: number }[] = [];

  constructor(random: () => number) {
    this.#random = random;
  }

  get list(): Fault[] {
    return this.#waiting.map(({ fault, left }) =>
      left === Number.POSITIVE_INFINITY ? fault : { ...fault, times: left },
    );
  }

  add(fault: Fault): void {
    if (this.#waiting.length >= FAULTS_MAX) throw new RangeError(`more than ${FAULTS_MAX} faults are set`);
    this.#waiting.push({ fault, left: fault.times ?? Number.POSITIVE_INFINITY });
  }

  clear(): void {
    this.#waiting = [];
  }

  /** What strikes any action spares instance metadata, which is no part of EC2's API. */
  strike(action: string, eni: EniId | null): Struck {
    let latencyMs = 0;
    let readLagMs = 0;
    let struck: Struck['fault'] = null;
    for (const waiting of this.#waiting) {
      const { fault } = waiting;
      if ((fault.action ?? (action === METADATA ? null : action)) !== action) continue;
      if (fault.eni !== undefined && fault.eni !== eni) continue;
      if (isExclusive(fault) && struck !== null) continue;
      if (fault.chance !== undefined && this.#random() >= fault.chance) continue;
      waiting.left--;
      if (fault.kind === 'latency') latencyMs += fault.ms;
      else if (fault.kind === 'readLag') readLagMs = Math.max(readLagMs, fault.ms);
      else struck = fault;
    }
    this.#waiting = this.#waiting.filter(({ left }) => left > 0);
    return { latencyMs, readLagMs, fault: struck };
  }
}

const isExclusive = (fault: Fault): boolean => fault.kind !== 'latency' && fault.kind !== 'readLag';
