/** Gives up holders whose end EC2 proves, and no others. */
import type { CloudEni } from '../cloud/cloud.ts';
import type { Allocation } from '../domain/allocation.ts';
import { IpamError, isError } from '../domain/error.ts';
import { type Ending, endedWith, STANDS_FOR_MS, sameEnding } from '../domain/evidence.ts';
import type { EniId } from '../domain/ids.ts';
import type { Machine } from './machine.ts';

/** Holders given up in one pass: what looks like the end of many may be the fault of one reader. */
const FREES_MAX = 10;

interface Standing {
  readonly ending: Ending;
  readonly since: number;
}

export interface Evidence {
  /** Weighs what EC2 has just shown of these ENIs of ours against what it showed before, and gives up the
   *  holders whose end is proven. `held` and `now` were read before EC2 was; the subnet's ENIs were seen. */
  weigh(held: readonly Allocation[], seen: ReadonlyMap<EniId, CloudEni>, now: number): Promise<number>;
}

/** What stands is remembered by this process alone: after a restart it has to be seen twice again. */
export function evidence(machine: Machine): Evidence {
  const standing = new Map<EniId, Standing>();

  async function weigh(
    held: readonly Allocation[],
    seen: ReadonlyMap<EniId, CloudEni>,
    now: number,
  ): Promise<number> {
    const proven: { row: Allocation; ending: Ending }[] = [];
    for (const [eni, rows] of Map.groupBy(held, row => row.iface)) {
      if (eni === null) continue;
      const ending = await endingOf(eni, seen.get(eni));
      if (ending === undefined) continue;
      const before = standing.get(eni);
      if (ending === null) standing.delete(eni);
      else if (before === undefined || !sameEnding(before.ending, ending))
        standing.set(eni, { ending, since: now });
      else if (now - before.since >= STANDS_FOR_MS[ending.kind])
        for (const row of rows) if (endedWith(row, ending)) proven.push({ row, ending });
    }
    return await giveUp(proven.slice(0, FREES_MAX));
  }

  /** Null: it lives as it did. Undefined: nobody knows, so what stands goes on standing. */
  async function endingOf(eni: EniId, seen: CloudEni | undefined): Promise<Ending | null | undefined> {
    try {
      const { attachment, attachedAt } = seen ?? (await machine.cloud.eni(eni));
      if (attachment === null) return { kind: 'detached' };
      return attachedAt === null ? null : { kind: 'attached anew', attachment, attachedAt };
    } catch (error) {
      if (isError(error, 'ec2-not-found')) return { kind: 'gone' };
      if (error instanceof IpamError) return undefined;
      throw error;
    }
  }

  /** On an ENI that is gone there is nothing to keep ready: those go the way of an Unassign, which EC2 answers
   *  with its absence. */
  async function giveUp(proven: readonly { row: Allocation; ending: Ending }[]): Promise<number> {
    const given = await machine.store.move(
      proven.map(({ row, ending }) => ({
        row,
        move:
          ending.kind === 'gone' || row.missingSince !== null ? ('retire' as const) : ('release' as const),
      })),
    );
    for (const row of given) {
      const ending = proven.find(one => one.row.ip === row.ip)?.ending.kind;
      machine.log('warn', `given up: its network interface is ${ending}`, { eni: row.iface, ip: row.ip });
    }
    return given.length;
  }

  return { weigh };
}
