/** With nothing left that has rested: the address that has rested longest, for a request that waits. */
import { type Allocation, isRested } from '../domain/allocation.ts';
import { isError } from '../domain/error.ts';
import type { Asked } from './allocator.ts';
import type { Enis } from './enis.ts';
import { type Exhausted, exhausted } from './exhausted.ts';
import { since } from './hints.ts';
import { assign } from './intents.ts';
import type { Machine } from './machine.ts';
import { takeBack } from './take-back.ts';

/** Ready addresses looked at together: more than any ENI holds. */
const READY_LOOK = 64;

export interface EarlyReuse {
  /** Claims one of those ready here, those free and, when there are none, those ready on other ENIs; null: there is
   *  none, or others were quicker. Throws exhausted when the ENI can take none. */
  claim(asked: Asked, why: Exhausted): Promise<Allocation | null>;
}

export function earlyReuse(machine: Machine, enis: Enis): EarlyReuse {
  const { store, policy, log } = machine;
  let count = 0;

  async function claim(asked: Asked, why: Exhausted): Promise<Allocation | null> {
    const { home, pool } = asked;
    const { rows, now } = await store.readyOn(home.eni.id, pool.range, READY_LOOK);
    const ready = rows.at(0) ?? null;
    const free = why.outcome === 'subnet dry' ? why.resting : null;
    const near = free === null || (ready !== null && since(ready) <= since(free)) ? ready : free;
    const chosen = near ?? (why.outcome === 'subnet dry' ? await fromElsewhere(asked) : null);
    if (chosen === null) return null;
    const here = chosen.status === 'ready' ? chosen : await assignOne(chosen, asked);
    if (here === null) return null;
    const [claimed = null] = await store.move([{ row: here, move: 'claim', holder: asked.holder }]);
    if (claimed !== null && !isRested(chosen, home.eni.id, policy, now)) logged(chosen, asked, now);
    return claimed;
  }

  async function fromElsewhere({ home, pool }: Asked): Promise<Allocation | null> {
    const wanted = { range: pool.range, count: 1, which: 'any' } as const;
    return (await takeBack(machine, enis, home, wanted)).at(0) ?? null;
  }

  async function assignOne(row: Allocation, asked: Asked): Promise<Allocation | null> {
    await machine.cloud.turn('assign');
    const { ready, error } = await assign(machine, asked.home.eni.id, [row]);
    if (isError(error, 'ec2-limit')) throw exhausted(policy, asked.home, { outcome: 'eni full', held: null });
    if (isError(error, 'ec2-subnet-full'))
      throw exhausted(policy, asked.home, { outcome: 'subnet dry', resting: null });
    if (error !== null) throw error;
    return ready[0] ?? null;
  }

  function logged(row: Allocation, { home }: Asked, now: number): void {
    const { ip, restedFrom } = row;
    const restedMs = now - since(row);
    log('warn', 'early reuse', { eni: home.eni.id, ip, restedMs, restedFrom, count: ++count });
  }

  return { claim };
}
