import { type IpamError, isError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import type { Machine } from '../context.ts';
import { Outage } from './retry.ts';

/** ENIs whose outages are remembered: whoever asks may name any. */
const ENIS_MAX = 10_000;

/** The outages that the requests of one server meet. */
export interface Outages {
  readonly store: Outage;
  /** An EC2 outage is an ENI's own: a call that hangs on one ENI delays no other. */
  ec2(eni: EniId): Outage;
}

export function outagesOf(machine: Machine): Outages {
  const boundMs = machine.policy.requestTimeoutMs;
  const ofEnis = new Map<EniId, Outage>();
  return {
    store: new Outage(boundMs, machine),
    ec2(eni) {
      const known = ofEnis.get(eni);
      if (known !== undefined) return known;
      const [oldest] = ofEnis.size >= ENIS_MAX ? ofEnis.keys() : [];
      if (oldest !== undefined) ofEnis.delete(oldest);
      const outage = new Outage(boundMs, machine);
      ofEnis.set(eni, outage);
      return outage;
    },
  };
}

export const isStoreDown = (error: unknown): error is IpamError => isError(error, 'store-down');
export const isEc2Away = (error: unknown): error is IpamError =>
  isError(error, 'ec2-unknown', 'ec2-unreachable', 'ec2-throttled');

/** Tries again while the store or EC2 is away, for as long as a request that started at `startedAt` may take. */
export const patience =
  (outages: Outages, eni: EniId, gone: () => boolean, startedAt: number) =>
  <T>(work: () => Promise<T>): Promise<T> =>
    outages.store.endure(
      isStoreDown,
      gone,
      () => outages.ec2(eni).endure(isEc2Away, gone, work, startedAt),
      startedAt,
    );
