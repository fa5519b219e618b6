import { CHANGES_MAX } from '../../store/store.ts';
import type { Machine } from '../context.ts';

const FACT = 'boot';

/** Embedded: a ledger that was last used before its host booted as `boot` names holders that ended with that.
 *  To be called before anybody is served; answers how many were given up. */
export async function endHoldersBefore(machine: Machine, boot: string): Promise<number> {
  const { store, log } = machine;
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
  if (ended > 0) log('warn', 'given up: the host has booted since', { holders: ended });
  return ended;
}
