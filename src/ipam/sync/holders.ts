/** Gives up holders whose end EC2 proves, and no others. */
import type { CloudEni } from '../../cloud/cloud.ts';
import type { Ipv4 } from '../../domain/address.ts';
import type { Allocation } from '../../domain/allocation.ts';
import { IpamError, isError } from '../../domain/error.ts';
import { type Ending, endedWith, STANDS_FOR_MS, sameEnding } from '../../domain/evidence.ts';
import { isSameHolding } from '../../domain/holding.ts';
import type { EniId } from '../../domain/ids.ts';
import { CHANGES_MAX, type LedgerEni } from '../../store/store.ts';
import type { IpamContext } from '../context.ts';
import { isGone } from '../ec2/identity.ts';

/** Holders given up in one pass: what looks like the end of many may be the fault of one reader. */
const FREES_MAX = 10;

/** A moment by the store's clock and by this process's monotonic one: either may step or stop, so that a time has passed
 *  only when it has by both. */
interface Moment {
  readonly store: number;
  readonly here: number;
}
const passedMs = (from: Moment, to: Moment): number => Math.min(to.store - from.store, to.here - from.here);

/** What EC2 has shown since some read, and since when each holding has stood with it. */
interface Standing {
  readonly ending: Ending;
  readonly since: Moment;
  readonly rows: Map<Ipv4, { readonly row: Allocation; readonly since: Moment }>;
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
export function createEvidence(context: IpamContext): Evidence {
  const standing = new Map<EniId, Standing>();

  async function weigh(
    weighed: readonly Allocation[],
    seen: ReadonlyMap<EniId, CloudEni>,
    now: number,
  ): Promise<ReadonlySet<EniId>> {
    const proven: { row: Allocation; ending: Ending }[] = [];
    const left = new Set<EniId>();
    const known = new Map((await context.store.enis()).map(eni => [eni.id, eni]));
    const moment: Moment = { store: now, here: context.clock() };
    const byEni = Map.groupBy(weighed, row => row.iface);
    // Where there is nothing to weigh nobody watches: what stood there before is too old to count later.
    for (const eni of standing.keys()) if (seen.has(eni) && !byEni.has(eni)) standing.delete(eni);
    for (const [eni, rows] of byEni) {
      if (eni === null) continue;
      const ending = await endingOf(eni, seen.get(eni), known.get(eni));
      if (ending === undefined) continue;
      const before = standing.get(eni);
      if (ending === null) {
        standing.delete(eni);
        continue;
      }
      const isNew = before === undefined || !sameEnding(before.ending, ending);
      const stands = isNew ? { ending, since: moment, rows: new Map() } : before;
      standing.set(eni, stands);
      for (const row of rows)
        if (row.status === 'allocated' && isEnded(stands, row, moment)) proven.push({ row, ending });
      const isProven = passedMs(stands.since, moment) >= STANDS_FOR_MS[ending.kind];
      if (isProven && ending.kind !== 'attached anew') left.add(eni);
    }
    await giveUp(proven.slice(0, FREES_MAX));
    return left;
  }

  /** Whoever claims after the first read that showed the end may hold the address on what came after it, unless EC2 goes on
   *  showing the end for as long again. */
  function isEnded({ ending, rows }: Standing, row: Allocation, now: Moment): boolean {
    const then = rows.get(row.ip);
    if (then === undefined || !isSameHolding(row, then.row)) {
      rows.set(row.ip, { row, since: now });
      return false;
    }
    return passedMs(then.since, now) >= STANDS_FOR_MS[ending.kind] && endedWith(row, ending);
  }

  /** Null: it lives as it did. Undefined: nobody knows, so what stands goes on standing. */
  async function endingOf(
    eni: EniId,
    seen: CloudEni | undefined,
    known: LedgerEni | undefined,
  ): Promise<Ending | null | undefined> {
    try {
      const { attachment, attachedAt, instance } = seen ?? (await context.cloud.eni(eni));
      const isElsewhere = context.instance !== null && instance !== context.instance;
      if (attachment === null || isElsewhere) return { kind: 'detached' };
      if (attachment !== known?.attachment) return undefined; // a late read, or one that the ledger has not noted
      const { claimsEndBefore } = known;
      return claimsEndBefore === null
        ? null
        : { kind: 'attached anew', attachment, attachedAt, claimsEndBefore };
    } catch (error) {
      if (isError(error, 'ec2-not-found')) return (await isGone(context, eni)) ? { kind: 'gone' } : undefined;
      if (error instanceof IpamError) return undefined;
      throw error;
    }
  }

  /** On an ENI that is gone there is nothing to keep ready: those go the way of an Unassign, which EC2 answers
   *  with its absence. */
  async function giveUp(proven: readonly { row: Allocation; ending: Ending }[]): Promise<void> {
    const given = await context.store.move(
      proven.map(({ row, ending }) => ({
        row,
        move:
          ending.kind === 'gone' || row.missingSince !== null ? ('retire' as const) : ('release' as const),
      })),
    );
    for (const row of given) {
      const ending = proven.find(one => one.row.ip === row.ip)?.ending;
      context.log('warn', `holder ended: its network interface is ${ending?.kind}`, {
        eni: row.iface,
        ip: row.ip,
        ...(ending?.kind === 'attached anew' ? { attachedAt: ending.attachedAt } : {}),
      });
    }
  }

  return { weigh };
}

const FACT = 'boot';

/** Embedded: a ledger that was last used before its host booted as `boot` names holders that ended with that.
 *  To be called before anybody is served; returns how many were given up. */
export async function endHoldersBefore(context: IpamContext, boot: string): Promise<number> {
  const { store, log } = context;
  const before = await store.fact(FACT);
  if (before === boot) return 0;
  let ended = 0;
  for (const { id } of before === null ? [] : await store.subnets()) {
    const { rows } = await store.withStatus(id, ['allocated']);
    for (let from = 0; from < rows.length; from += CHANGES_MAX) {
      const changes = rows
        .slice(from, from + CHANGES_MAX)
        .map(row => ({ row, move: row.missingSince === null ? ('release' as const) : ('retire' as const) }));
      ended += (await store.move(changes)).length;
    }
  }
  await store.noteFact(FACT, boot);
  if (ended > 0) log('warn', 'holders ended: the host has rebooted', { count: ended });
  return ended;
}
