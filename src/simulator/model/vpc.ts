/** The simulated VPC as EC2 calls reach it: throttling, faults, old reads and late writes. */
import type { EniId } from '../../domain/ids.ts';
import { createBuckets } from './buckets.ts';
import { Ec2Error, refuse } from './ec2-error.ts';
import { createFaults, type Struck } from './faults.ts';
import { createNetwork, type Network } from './network.ts';
import { HISTORY_MS_MAX } from './records.ts';
import { createSessions } from './sessions.ts';

/** The longest delay of a call that is applied late, in milliseconds. It is less than the grace of the ledger's
 *  intents. */
export const LATE_MS_MAX = 929_999;
const LATE_CALLS_MAX = 10_000;

/** The outcome of a call. `afterMs`: the delay of the response. */
export type Outcome<T> =
  | { readonly kind: 'answer'; readonly value: T; readonly afterMs: number }
  | { readonly kind: 'refusal'; readonly error: Ec2Error; readonly afterMs: number }
  /** The connection is closed without a response. */
  | { readonly kind: 'dropped'; readonly afterMs: number }
  /** There is no response, and the connection stays open. */
  | { readonly kind: 'never' };

export interface VpcOptions {
  /** A clock, in milliseconds. `advance` sets the simulator's clock ahead of it. */
  readonly now: () => number;
  /** 0 to 1, exclusive. */
  readonly random: () => number;
  readonly region?: string;
  /** See Buckets; absent: 1, as in EC2. */
  readonly bucketScale?: number | null;
  /** A refusal does not name the addresses that are taken, as EC2 sometimes does not. */
  readonly unnamedRefusals?: boolean;
}

export type Vpc = ReturnType<typeof createVpc>;

/**
 * An empty VPC. `network` reads and changes it directly; `read` and `write` are EC2 calls, with throttling and faults.
 * There is no timer: a late call and new tokens are applied at the next access.
 */
export function createVpc(options: VpcOptions) {
  const { now: clock, random, region = 'eu-central-1', bucketScale = 1, unnamedRefusals = false } = options;
  const network = createNetwork({ now, random, unnamedRefusals });
  const buckets = createBuckets(bucketScale, now);
  const faults = createFaults(random);
  const sessions = createSessions(random);
  const denied = new Set<string>();
  const calls = new Map<string, number>();
  let aheadMs = 0;
  const late: { at: number; apply: (network: Network) => unknown }[] = [];
  /** While a late call is applied: when it was due. */
  let applyingAt: number | null = null;

  /** The simulator's clock, in milliseconds. */
  function now(): number {
    return applyingAt ?? clock() + aheadMs;
  }

  /** Sets the simulator's clock forward. Throws RangeError for a negative number. */
  function advance(ms: number): void {
    if (!(ms >= 0)) throw new RangeError(`the clock cannot be set ${ms} ms forward`);
    aheadMs += ms;
  }

  /** A call that only reads. `look` gets the time to read at; without one it reads the present. `sweeping`: the call
   *  has no filter and no pagination. */
  function read<T>(action: string, look: (network: Network, at?: number) => T, sweeping = false): Outcome<T> {
    const struck = admit(action, null, sweeping);
    if ('kind' in struck) return struck;
    const lagMs = Math.min(struck.readLagMs, HISTORY_MS_MAX);
    return carryOut(struck, () => look(network, lagMs === 0 ? undefined : now() - lagMs));
  }

  /** A call that changes something. */
  function write<T>(action: string, eni: EniId | null, change: (network: Network) => T): Outcome<T> {
    const struck = admit(action, eni, false);
    if ('kind' in struck) return struck;
    if (struck.fault?.kind !== 'applyLate') return carryOut(struck, () => change(network));
    if (late.length >= LATE_CALLS_MAX) throw new RangeError(`${LATE_CALLS_MAX} calls are late already`);
    late.push({ at: now() + Math.min(struck.fault.ms, LATE_MS_MAX), apply: change });
    late.sort((a, b) => a.at - b.at);
    return unanswered(struck);
  }

  /**
   * A call with DryRun: it changes and reads nothing, and tells by an error whether the caller has the right. It takes a
   * token like any call. https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html has the two codes;
   * status and text are those that clients report: https://github.com/getmoto/moto/pull/4270,
   * https://github.com/aws/aws-cli/issues/3127. For AssignPrivateIpAddresses and UnassignPrivateIpAddresses the API
   * reference does not list the parameter; the AWS SDK for Java 1 sends it with them too (getDryRunRequest), and whether
   * EC2 accepts it there was not tried. Nor was what EC2 says of resources that do not exist: here they are not looked at.
   */
  function dryRun(action: string): Outcome<never> {
    const struck = admit(action, null, false);
    if ('kind' in struck) return struck;
    return carryOut(struck, () => {
      throw refuse.dryRun();
    });
  }

  /** Returns the faults of the call, or the outcome of a call that is not carried out. */
  function admit(action: string, eni: EniId | null, sweeping: boolean): Struck | Outcome<never> {
    applyLate();
    calls.set(action, (calls.get(action) ?? 0) + 1);
    const struck = faults.strike(action, eni);
    const { fault, latencyMs: afterMs } = struck;
    if (!buckets.take(action, sweeping) || fault?.kind === 'throttle')
      return { kind: 'refusal', error: refuse.throttled(), afterMs };
    if (fault?.kind === 'hang') return { kind: 'never' };
    if (fault?.kind === 'error')
      return { kind: 'refusal', error: new Ec2Error(fault.code, fault.message), afterMs };
    if (denied.has(action)) return { kind: 'refusal', error: refuse.unauthorized(), afterMs };
    return struck;
  }

  function applyLate(): void {
    for (let next = late[0]; next !== undefined && next.at <= now(); next = late[0]) {
      late.shift();
      applyingAt = next.at;
      try {
        next.apply(network);
      } catch (error) {
        if (!(error instanceof Ec2Error)) throw error; // a refusal has no caller any more
      } finally {
        applyingAt = null;
      }
    }
  }

  return {
    region,
    random,
    faults,
    buckets,
    sessions,
    /** The actions that callers have no right to. */
    denied,
    /** How often each action was called, with refused and throttled calls. */
    calls: calls as ReadonlyMap<string, number>,
    /** How far EC2's time of day is ahead of its callers', in milliseconds: for the Date header and for signatures. */
    dayAheadMs: 0,
    now,
    advance,
    read,
    write,
    dryRun,
    get network(): Network {
      applyLate();
      return network;
    },
    /** How many calls are not applied yet. */
    get lateCalls(): number {
      applyLate();
      return late.length;
    },
  };
}

function carryOut<T>(struck: Struck, work: () => T): Outcome<T> {
  const { fault, latencyMs: afterMs } = struck;
  try {
    const value = work();
    return fault === null ? { kind: 'answer', value, afterMs } : unanswered(struck);
  } catch (error) {
    if (!(error instanceof Ec2Error)) throw error;
    return fault === null ? { kind: 'refusal', error, afterMs } : unanswered(struck);
  }
}

/** The outcome for the caller of a call that was carried out without a response. */
function unanswered({ fault, latencyMs: afterMs }: Struck): Outcome<never> {
  if (fault === null || !('code' in fault) || fault.code === undefined) return { kind: 'dropped', afterMs };
  return { kind: 'refusal', error: new Ec2Error(fault.code, fault.message ?? fault.code), afterMs };
}
