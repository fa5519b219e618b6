/** With nothing left that has rested: the address that has rested longest, for a request that waits. */
import { type Allocation, isRested } from '../../domain/allocation.ts';
import { isError } from '../../domain/error.ts';
import type { Machine } from '../context.ts';
import { assign, stopInDoubt } from '../ec2/assign.ts';
import type { Enis } from '../ec2/enis.ts';
import { since } from '../pool/cache.ts';
import { takeBack } from '../pool/steal.ts';
import type { Asked } from './allocate.ts';
import { type Exhausted, exhausted } from './exhausted.ts';

/** Ready addresses looked at together: those that have rested longest. */
const READY_LOOK = 256;
/** Free ones, of which others take some meanwhile. */
const FREE_LOOK = 32;
/** Ready ones that are tried before looking again. */
const TRIES_MAX = 8;

export interface EarlyReuse {
  /** Claims one of those ready here, those free and, when there are none, those ready on other ENIs; null: there is
   *  none, or others were quicker. Throws exhausted when the ENI can take none. */
  claim(asked: Asked, why: Exhausted): Promise<Allocation | null>;
  /** Notes that the row, as it was then, was claimed before it had rested; `now` by the store's clock. */
  logged(row: Allocation, asked: Asked, now: number): void;
}

export function earlyReuse(machine: Machine, enis: Enis): EarlyReuse {
  const { store, policy, log } = machine;
  let count = 0;

  async function claim(asked: Asked, why: Exhausted): Promise<Allocation | null> {
    const { home, pool } = asked;
    const { rows, now } = await store.readyOn(home.eni.id, pool.range, READY_LOOK);
    const ready = rows.at(0) ?? null;
    const free = why.outcome === 'subnet dry' ? why.resting : null;
    if (free !== null && (ready === null || since(free) < since(ready))) return await claimFree(asked);
    if (ready === null && why.outcome === 'subnet dry' && (await fromElsewhere(asked)))
      return await claimFree(asked);
    for (const row of rows.slice(0, TRIES_MAX)) {
      const claimed = await claimHere(row, row, asked, now);
      if (claimed !== null) return claimed;
    }
    return null;
  }

  async function claimHere(here: Allocation, before: Allocation, asked: Asked, now: number) {
    const [claimed = null] = await store.move([{ row: here, move: 'claim', holder: asked.holder }]);
    if (claimed !== null && !isRested(before, asked.home.eni.id, policy, now)) logged(before, asked, now);
    return claimed;
  }

  async function fromElsewhere({ home, pool, until }: Asked): Promise<boolean> {
    const wanted = { range: pool.range, count: 1, which: 'any', until: until() } as const;
    return (await takeBack(machine, enis, home, wanted)).length > 0;
  }

  /** Which it is is decided after the turn, and when others are quicker it is the next. */
  async function claimFree(asked: Asked): Promise<Allocation | null> {
    const { home, pool } = asked;
    const { eni, subnet } = home;
    await stopInDoubt(machine, eni.id);
    await machine.cloud.turn('assign', asked.until());
    const query = { subnet: subnet.id, eni: eni.id, range: pool.range, rest: policy, which: 'any' as const };
    const { rows, now } = await store.freeFor({ ...query, limit: FREE_LOOK });
    const { ready, error } = await assign(machine, eni.id, rows, 1);
    if (isError(error, 'ec2-limit')) throw exhausted(policy, home, { outcome: 'eni full', held: null });
    if (isError(error, 'ec2-subnet-full'))
      throw exhausted(policy, home, { outcome: 'subnet dry', resting: null });
    if (error !== null) throw error;
    const [here] = ready;
    const before = rows.find(row => row.ip === here?.ip);
    return here === undefined || before === undefined ? null : await claimHere(here, before, asked, now);
  }

  function logged(row: Allocation, { home }: Asked, now: number): void {
    const { ip, restedFrom } = row;
    const restedMs = now - since(row);
    log('warn', 'early reuse', { eni: home.eni.id, ip, restedMs, restedFrom, count: ++count });
  }

  return { claim, logged };
}
