/** Gives up holders whose end EC2 proves, and no others. */
import type { CloudEni } from '../cloud/cloud.ts';
import type { Ipv4 } from '../domain/address.ts';
import type { Allocation } from '../domain/allocation.ts';
import { IpamError, isError } from '../domain/error.ts';
import { type Ending, endedWith, STANDS_FOR_MS, sameEnding } from '../domain/evidence.ts';
import type { EniId } from '../domain/ids.ts';
import type { LedgerEni } from '../store/store.ts';
import { isSameHolding } from './give-back.ts';
import type { Machine } from './machine.ts';

/** Holders given up in one pass: what looks like the end of many may be the fault of one reader. */
const FREES_MAX = 10;

/** What EC2 has shown since some read, and the rows as they were then. */
interface Standing {
  readonly ending: Ending;
  /** By the store's clock and by this process's monotonic one: either may step or stop, so that both have to pass. */
  readonly since: number;
  readonly sinceHere: number;
  /** Whoever claims after that read is none of the holders that end. */
  readonly rows: ReadonlyMap<Ipv4, Allocation>;
}

export interface Evidence {
  /** Weighs what EC2 has just shown of the ENIs of ours that these rows are on against what it showed before, and gives up
   *  the holders among them whose end is proven. Answers the ENIs that have left: gone or detached, as is proven. `rows`
   *  and `now` were read before EC2 was; the subnet's ENIs were seen. */
  weigh(
    rows: readonly Allocation[],
    seen: ReadonlyMap<EniId, CloudEni>,
    now: number,
  ): Promise<ReadonlySet<EniId>>;
}

/** What stands is remembered by this process alone: after a restart it has to be seen twice again. */
export function evidence(machine: Machine): Evidence {
  const standing = new Map<EniId, Standing>();

  async function weigh(
    weighed: readonly Allocation[],
    seen: ReadonlyMap<EniId, CloudEni>,
    now: number,
  ): Promise<ReadonlySet<EniId>> {
    const proven: { row: Allocation; ending: Ending }[] = [];
    const left = new Set<EniId>();
    const known = new Map((await machine.store.enis()).map(eni => [eni.id, eni]));
    const here = machine.clock();
    const byEni = Map.groupBy(weighed, row => row.iface);
    // Where there is nothing to weigh nobody watches: what stood there before is too old to count later.
    for (const eni of standing.keys()) if (seen.has(eni) && !byEni.has(eni)) standing.delete(eni);
    for (const [eni, rows] of byEni) {
      if (eni === null) continue;
      const ending = await endingOf(eni, seen.get(eni), known.get(eni));
      if (ending === undefined) continue;
      const before = standing.get(eni);
      if (ending === null) standing.delete(eni);
      else if (before === undefined || !sameEnding(before.ending, ending))
        standing.set(eni, {
          ending,
          since: now,
          sinceHere: here,
          rows: new Map(rows.map(row => [row.ip, row])),
        });
      else if (Math.min(now - before.since, here - before.sinceHere) >= STANDS_FOR_MS[ending.kind]) {
        const isEnded = (row: Allocation): boolean => {
          const then = before.rows.get(row.ip);
          return then !== undefined && isSameHolding(row, then) && endedWith(row, ending);
        };
        for (const row of rows) if (row.status === 'allocated' && isEnded(row)) proven.push({ row, ending });
        if (ending.kind !== 'attached anew') left.add(eni);
      }
    }
    await giveUp(proven.slice(0, FREES_MAX));
    return left;
  }

  /** Null: it lives as it did. Undefined: nobody knows, so what stands goes on standing. */
  async function endingOf(
    eni: EniId,
    seen: CloudEni | undefined,
    known: LedgerEni | undefined,
  ): Promise<Ending | null | undefined> {
    try {
      const { attachment, attachedAt, instance } = seen ?? (await machine.cloud.eni(eni));
      const isElsewhere = machine.instance !== null && instance !== machine.instance;
      if (attachment === null || isElsewhere) return { kind: 'detached' };
      if (attachment !== known?.attachment) return undefined; // a late read, or one that the ledger has not noted
      const { claimsEndBefore } = known;
      return claimsEndBefore === null
        ? null
        : { kind: 'attached anew', attachment, attachedAt, claimsEndBefore };
    } catch (error) {
      if (isError(error, 'ec2-not-found')) return { kind: 'gone' };
      if (error instanceof IpamError) return undefined;
      throw error;
    }
  }

  /** On an ENI that is gone there is nothing to keep ready: those go the way of an Unassign, which EC2 answers
   *  with its absence. */
  async function giveUp(proven: readonly { row: Allocation; ending: Ending }[]): Promise<void> {
    const given = await machine.store.move(
      proven.map(({ row, ending }) => ({
        row,
        move:
          ending.kind === 'gone' || row.missingSince !== null ? ('retire' as const) : ('release' as const),
      })),
    );
    for (const row of given) {
      const ending = proven.find(one => one.row.ip === row.ip)?.ending;
      machine.log('warn', `given up: its network interface is ${ending?.kind}`, {
        eni: row.iface,
        ip: row.ip,
        ...(ending?.kind === 'attached anew' ? { attachedAt: ending.attachedAt } : {}),
      });
    }
  }

  return { weigh };
}
