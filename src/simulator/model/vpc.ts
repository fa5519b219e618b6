import type { EniId } from '../../domain/ids.ts';
import { Buckets } from './buckets.ts';
import { Ec2Error, refuse } from './ec2-error.ts';
import { Faults, type Struck } from './faults.ts';
import { Network } from './network.ts';
import { HISTORY_MS_MAX } from './records.ts';

/** Longest delay with which a call is applied behind its caller's back, in milliseconds: below the ledger's
 *  grace for unfinished intents. */
export const LATE_MS_MAX = 929_999;
const LATE_CALLS_MAX = 10_000;

/** What became of a call. `afterMs`: how long its caller waits for that. */
export type Outcome<T> =
  | { readonly kind: 'answer'; readonly value: T; readonly afterMs: number }
  | { readonly kind: 'refusal'; readonly error: Ec2Error; readonly afterMs: number }
  /** The connection drops without an answer. */
  | { readonly kind: 'dropped'; readonly afterMs: number }
  /** There never is an answer. */
  | { readonly kind: 'never' };

export interface VpcOptions {
  /** A clock, in milliseconds; `advance` sets the model's own clock ahead of it. */
  readonly now: () => number;
  /** 0 to 1, exclusive. */
  readonly random: () => number;
  readonly region?: string;
  /** See Buckets; absent: 1, as EC2's are. */
  readonly bucketScale?: number | null;
  /** A refused address is not named, as EC2 sometimes does. */
  readonly unnamedRefusals?: boolean;
}

/**
 * A strict VPC. `network` is what it holds, to be read and changed at will; `read` and `write` are EC2's door
 * to it, with its throttling and the faults that were set. It waits for nothing: what comes later (the rest of
 * a late call, new tokens) has happened when the model is next looked at.
 */
export class Vpc {
  readonly region: string;
  readonly faults: Faults;
  readonly buckets: Buckets;
  readonly random: () => number;
  /** How far EC2's time of day is ahead of its callers', in milliseconds: what it dates answers and signatures by. */
  dayAheadMs = 0;
  readonly #clock: () => number;
  readonly #network: Network;
  readonly #calls = new Map<string, number>();
  #aheadMs = 0;
  #late: { at: number; apply: (network: Network) => unknown }[] = [];
  /** While a late call is applied, the moment for which it was due. */
  #applyingAt: number | null = null;

  constructor(options: VpcOptions) {
    this.#clock = options.now;
    this.random = options.random;
    this.region = options.region ?? 'eu-central-1';
    const now = () => this.now();
    this.#network = new Network({
      now,
      random: options.random,
      unnamedRefusals: options.unnamedRefusals ?? false,
    });
    this.buckets = new Buckets(options.bucketScale === undefined ? 1 : options.bucketScale, now);
    this.faults = new Faults(options.random);
  }

  /** The model's clock, in milliseconds. */
  now(): number {
    return this.#applyingAt ?? this.#clock() + this.#aheadMs;
  }

  /** Sets the model's clock forward. */
  advance(ms: number): void {
    if (!(ms >= 0)) throw new RangeError(`the clock cannot be set ${ms} ms forward`);
    this.#aheadMs += ms;
  }

  get network(): Network {
    this.#applyLate();
    return this.#network;
  }

  /** How often each action was called, refused and throttled calls included. */
  get calls(): ReadonlyMap<string, number> {
    return this.#calls;
  }

  /** Calls that were not applied yet but will be. */
  get lateCalls(): number {
    this.#applyLate();
    return this.#late.length;
  }

  /** A call that only reads; `look` gets the moment to read at, which may be in the past. `sweeping`: it
   *  neither filters nor paginates. */
  read<T>(action: string, look: (network: Network, at?: number) => T, sweeping = false): Outcome<T> {
    const struck = this.#admit(action, null, sweeping);
    if ('kind' in struck) return struck;
    const lagMs = Math.min(struck.readLagMs, HISTORY_MS_MAX);
    return this.#carryOut(struck, () => look(this.#network, lagMs === 0 ? undefined : this.now() - lagMs));
  }

  /** A call that changes something. */
  write<T>(action: string, eni: EniId | null, change: (network: Network) => T): Outcome<T> {
    const struck = this.#admit(action, eni, false);
    if ('kind' in struck) return struck;
    if (struck.fault?.kind !== 'applyLate') return this.#carryOut(struck, () => change(this.#network));
    if (this.#late.length >= LATE_CALLS_MAX) throw new RangeError(`${LATE_CALLS_MAX} calls are late already`);
    this.#late.push({ at: this.now() + Math.min(struck.fault.ms, LATE_MS_MAX), apply: change });
    this.#late.sort((a, b) => a.at - b.at);
    return unanswered(struck);
  }

  /** The faults that strike the call, or the answer of one that is not let in. */
  #admit(action: string, eni: EniId | null, sweeping: boolean): Struck | Outcome<never> {
    this.#applyLate();
    this.#calls.set(action, (this.#calls.get(action) ?? 0) + 1);
    const struck = this.faults.strike(action, eni);
    const { fault, latencyMs: afterMs } = struck;
    if (!this.buckets.take(action, sweeping) || fault?.kind === 'throttle')
      return { kind: 'refusal', error: refuse.throttled(), afterMs };
    if (fault?.kind === 'hang') return { kind: 'never' };
    if (fault?.kind === 'error')
      return { kind: 'refusal', error: new Ec2Error(fault.code, fault.message), afterMs };
    return struck;
  }

  #carryOut<T>(struck: Struck, work: () => T): Outcome<T> {
    const { fault, latencyMs: afterMs } = struck;
    try {
      const value = work();
      return fault === null ? { kind: 'answer', value, afterMs } : unanswered(struck);
    } catch (error) {
      if (!(error instanceof Ec2Error)) throw error;
      return fault === null ? { kind: 'refusal', error, afterMs } : unanswered(struck);
    }
  }

  #applyLate(): void {
    for (let next = this.#late[0]; next !== undefined && next.at <= this.now(); next = this.#late[0]) {
      this.#late.shift();
      this.#applyingAt = next.at;
      try {
        next.apply(this.#network);
      } catch (error) {
        if (!(error instanceof Ec2Error)) throw error; // refused, with nobody left to hear it
      } finally {
        this.#applyingAt = null;
      }
    }
  }
}

/** What the caller gets in place of the answer. */
function unanswered({ fault, latencyMs: afterMs }: Struck): Outcome<never> {
  if (fault === null || !('code' in fault) || fault.code === undefined) return { kind: 'dropped', afterMs };
  return { kind: 'refusal', error: new Ec2Error(fault.code, fault.message ?? fault.code), afterMs };
}
