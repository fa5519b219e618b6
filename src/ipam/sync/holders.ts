/** Ends holdings whose ENI is gone, detached or attached anew, as EC2 shows in two reads, or whose host has
 *  rebooted. */
import type { CloudEni } from '../../cloud/cloud.ts';
import type { Ipv4 } from '../../domain/address.ts';
import { type Allocation, moveToEnd } from '../../domain/allocation.ts';
import { type Ending, endedWith, STANDS_FOR_MS, sameEnding } from '../../domain/eni-departure.ts';
import { IpamError, isError } from '../../domain/error.ts';
import { isSameHolding } from '../../domain/holding.ts';
import type { EniId } from '../../domain/ids.ts';
import { CHANGES_MAX, type LedgerEni } from '../../store/store.ts';
import type { IpamContext } from '../context.ts';
import { isGone } from '../ec2/account.ts';

/** Holdings ended in one pass. Bounded, since the apparent end of many may be a fault of this client. */
const ENDED_MAX = 10;

/** A time on the store's clock and on the process's monotonic clock. Either may step or stop, so that a duration
 *  has passed only when it has passed on both. */
interface Moment {
  readonly store: number;
  readonly local: number;
}
const passedMs = (from: Moment, to: Moment): number => Math.min(to.store - from.store, to.local - from.local);

/** An ending that EC2 has shown since `since`, and for each holding the first read that showed both. */
interface ShownEnding {
  readonly ending: Ending;
  readonly since: Moment;
  readonly rows: Map<Ipv4, { readonly row: Allocation; readonly since: Moment }>;
}

export interface Evidence {
  /** Compares what EC2 has just shown of the ENIs of these rows with what it showed before, and ends the holdings
   *  whose end is proved. Returns the ENIs that are proved to be gone or detached. `rows` and `now` must have been
   *  read before EC2 was; `seen` has all ENIs of the subnet that EC2 shows. */
  weigh(
    rows: readonly Allocation[],
    seen: ReadonlyMap<EniId, CloudEni>,
    now: number,
  ): Promise<ReadonlySet<EniId>>;
}

/** The evidence is kept in this process only: after a restart two new reads are needed. */
export function createEvidence(context: IpamContext): Evidence {
  const endings = new Map<EniId, ShownEnding>();

  async function weigh(
    observed: readonly Allocation[],
    seen: ReadonlyMap<EniId, CloudEni>,
    now: number,
  ): Promise<ReadonlySet<EniId>> {
    const proven: { row: Allocation; ending: Ending }[] = [];
    const left = new Set<EniId>();
    const known = new Map((await context.store.enis()).map(eni => [eni.id, eni]));
    const moment: Moment = { store: now, local: context.clock() };
    const byEni = Map.groupBy(observed, row => row.iface);
    // An ENI without rows is not observed, so that its earlier evidence must not count later.
    for (const eni of endings.keys()) if (seen.has(eni) && !byEni.has(eni)) endings.delete(eni);
    for (const [eni, rows] of byEni) {
      if (eni === null) continue;
      const ending = await endingOf(eni, seen.get(eni), known.get(eni));
      if (ending === undefined) continue;
      const before = endings.get(eni);
      if (ending === null) {
        endings.delete(eni);
        continue;
      }
      const isNew = before === undefined || !sameEnding(before.ending, ending);
      const current = isNew ? { ending, since: moment, rows: new Map() } : before;
      endings.set(eni, current);
      for (const row of rows)
        if (row.status === 'allocated' && isEnded(current, row, moment)) proven.push({ row, ending });
      const isProven = passedMs(current.since, moment) >= STANDS_FOR_MS[ending.kind];
      if (isProven && ending.kind !== 'attached anew') left.add(eni);
    }
    await end(proven.slice(0, ENDED_MAX));
    return left;
  }

  /** Returns whether the holding has ended. A claim made after the first read that showed the end may be on a later
   *  attachment. So the time counts anew from the first read after the claim. */
  function isEnded({ ending, rows }: ShownEnding, row: Allocation, now: Moment): boolean {
    const then = rows.get(row.ip);
    if (then === undefined || !isSameHolding(row, then.row)) {
      rows.set(row.ip, { row, since: now });
      return false;
    }
    return passedMs(then.since, now) >= STANDS_FOR_MS[ending.kind] && endedWith(row, ending);
  }

  /** Returns the ENI's ending; null if it is attached as before; undefined if unknown, so that earlier evidence
   *  stays. */
  async function endingOf(
    eni: EniId,
    seen: CloudEni | undefined,
    known: LedgerEni | undefined,
  ): Promise<Ending | null | undefined> {
    try {
      const { attachment, attachedAt, instance } = seen ?? (await context.cloud.eni(eni));
      const isElsewhere = context.host.instance !== null && instance !== context.host.instance;
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

  /** Ends the holdings. On a deleted ENI no address can be ready, so its rows go to `unassigning`: EC2 answers the
   *  unassign with NotFound, and the rows become free. */
  async function end(proven: readonly { row: Allocation; ending: Ending }[]): Promise<void> {
    const given = await context.store.move(
      proven.map(({ row, ending }) => ({
        row,
        move: ending.kind === 'gone' ? ('retire' as const) : moveToEnd(row),
        cause: 'reconcile' as const,
      })),
    );
    for (const row of given) {
      const ending = proven.find(one => one.row.ip === row.ip)?.ending;
      context.log('warn', `holder ended, network interface ${ending?.kind}`, {
        eni: row.iface,
        ip: row.ip,
        ...(ending?.kind === 'attached anew' ? { attachedAt: ending.attachedAt } : {}),
      });
    }
  }

  return { weigh };
}

const FACT = 'boot';

/** Embedded: ends all holdings if the host has booted since the ledger was last used. `boot` is the boot id. Call
 *  it before the first request is served. Returns how many holdings ended. */
export async function endHoldersBefore(context: IpamContext, boot: string): Promise<number> {
  const { store, log } = context;
  const before = await store.fact(FACT);
  if (before === boot) return 0;
  let ended = 0;
  for (const { id } of before === null ? [] : await store.subnets()) {
    const { rows } = await store.withStatus(id, ['allocated']);
    for (let from = 0; from < rows.length; from += CHANGES_MAX) {
      const changes = rows.slice(from, from + CHANGES_MAX).map(row => ({
        row,
        move: moveToEnd(row),
        cause: 'reconcile' as const,
      }));
      ended += (await store.move(changes)).length;
    }
  }
  await store.noteFact(FACT, boot);
  if (ended > 0) log('warn', 'holders ended, host rebooted', { count: ended });
  return ended;
}
