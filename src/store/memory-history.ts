/** The history of the ledger in memory. */
import type { Ipv4 } from '../domain/address.ts';
import type { Allocation, Change } from '../domain/allocation.ts';
import {
  actionOf,
  type Beginning,
  type Ec2CallRecord,
  ec2CallsIn,
  endedTenure,
  endsHolding,
  RESULT_CHARS_MAX,
  serverOf,
  type Tenure,
  tenureOf,
} from '../domain/history.ts';
import type { SubnetId } from '../domain/ids.ts';
import { keyOf } from './group-commit.ts';
import type { RecentEnd } from './looks.ts';
import { AGED_AT_ONCE_MS, type Store, TRIMMED_MAX } from './store.ts';

interface Ended extends RecentEnd {
  readonly tenure: Tenure;
}

type Reads = Pick<Store, 'history' | 'endEc2Call' | 'ec2Calls' | 'historyEnd' | 'trimHistory'>;
export interface MemoryHistory extends Reads {
  /** Notes what a move began or ended. */
  noteMove(change: Change, before: Allocation, after: Allocation): void;
  /** What has ended, in the order of the moves. */
  ended(): readonly RecentEnd[];
  /** Notes the EC2 calls that the changes begin or end. `moved` are the rows of those that were made. */
  noteEc2Calls(changes: readonly Change[], moved: readonly Allocation[], at: number, token: string): void;
}

/** Without `isOn` it notes only how the holdings began, since it may be on at the server that ends them. */
export function createMemoryHistory(
  isOn: boolean,
  clock: () => number,
  rowOf: (subnet: SubnetId, ip: Ipv4) => Allocation | undefined,
): MemoryHistory {
  const begun = new Map<string, Beginning>();
  let records: Ended[] = [];
  const calls = new Map<string, Ec2CallRecord>();
  const reading = <T>(rows: readonly T[]) => ({ now: clock(), rows });

  function endCall(id: string, result: string, endedAt: number): void {
    const call = calls.get(id);
    if (call !== undefined) calls.set(id, { ...call, endedAt, result: result.slice(0, RESULT_CHARS_MAX) });
  }

  return {
    noteMove(change, before, after) {
      const key = keyOf(after);
      const at = after.movedAt;
      if (change.move === 'claim')
        begun.set(key, { at, call: change.call ?? null, server: serverOf(after.token ?? '') });
      if (!isOn || !endsHolding(change.move)) return;
      const tenure = endedTenure(before, begun.get(key) ?? null, change, after);
      const { subnet, ip, generation } = after;
      records.push({ subnet, ip, generation, at, since: tenure.since, tenure });
    },
    ended: () => records,
    noteEc2Calls(changes, moved, at, token) {
      if (!isOn) return;
      const { begun: fresh, ended: settled } = ec2CallsIn(changes);
      for (const [id, same] of fresh) {
        const keys = new Set(same.map(({ row }) => keyOf(row)));
        const own = moved.filter(row => keys.has(keyOf(row)));
        const [change, iface] = [same[0] as Change, own[0]?.iface ?? null];
        if (iface === null) continue;
        const call = calls.get(id) ?? {
          ...{ id, at, action: actionOf(change), iface, server: serverOf(token), ips: [] },
        };
        const ips = [...call.ips, ...own.map(row => row.ip)];
        calls.set(id, { ...call, ips, endedAt: null, result: null });
      }
      for (const [id, result] of settled) endCall(id, result, at);
    },

    async history(subnet, ip, limit) {
      const key = keyOf({ subnet, ip });
      const row = rowOf(subnet, ip);
      const now = row?.status === 'allocated' ? [tenureOf(row, begun.get(key) ?? null)] : [];
      const before = records.filter(one => keyOf(one) === key).map(({ tenure }) => tenure);
      return reading([...now, ...before.reverse()].slice(0, limit));
    },
    async endEc2Call(id, result) {
      endCall(id, result, clock());
    },
    async ec2Calls(forMs, limit) {
      const recent = [...calls.values()].filter(one => one.at >= clock() - forMs);
      return reading(recent.sort((a, b) => b.at - a.at).slice(0, limit));
    },
    async historyEnd(ageMs, recordsMax) {
      const beyond = records.toSorted((a, b) => b.at - a.at)[recordsMax];
      const all = [...records, ...calls.values()];
      const oldest = all.reduce((first, { at }) => Math.min(first, at), Number.POSITIVE_INFINITY);
      return Math.max(Math.min(clock() - ageMs - 1, oldest + AGED_AT_ONCE_MS), beyond?.at ?? 0);
    },
    async trimHistory(until) {
      const last = records.toSorted((a, b) => a.at - b.at)[TRIMMED_MAX - 1];
      const some = Math.min(until, last?.at ?? until);
      records = records.filter(one => one.at > some);
      const old = [...calls.values()].sort((a, b) => a.at - b.at);
      const someCalls = Math.min(until, old[TRIMMED_MAX - 1]?.at ?? until);
      for (const one of old) if (one.at <= someCalls) calls.delete(one.id);
      return some < until || someCalls < until;
    },
  };
}
