import { randomUUID } from 'node:crypto';
import { type Change, HOLDER_CHARS_MAX, type RowState, ruleOf } from '../domain/allocation.ts';
import { IpamError } from '../domain/error.ts';
import { CHANGES_MAX } from './store.ts';

/** The changes of one `move` that can apply at all: a row counts once (the first wins, as it would one by
 *  one), and a change that does not start at its row's status is a "no". Throws internal past CHANGES_MAX. */
export function batchOf(changes: readonly Change[]): Change[] {
  if (changes.length > CHANGES_MAX)
    throw new IpamError(
      'internal',
      `one move of ${changes.length} changes, at most ${CHANGES_MAX} are taken`,
    );
  const first = new Map<string, Change>();
  for (const change of changes) {
    const key = keyOf(change.row);
    if (ruleOf(change.move).from === change.row.status && !first.has(key))
      first.set(key, withShortHolder(change));
  }
  return [...first.values()];
}

/** Which address of which subnet. */
export const keyOf = ({ subnet, ip }: Pick<RowState, 'subnet' | 'ip'>): string => `${subnet} ${ip}`;

/** Makes the tokens of one process: 36 characters, each fresh, that begin with `origin`. */
export const tokensOf =
  (origin = ''): (() => string) =>
  () =>
    origin + randomUUID().slice(origin.length);

/** The items by key, in the order of their first ones. */
export function groupBy<K, T>(items: readonly T[], of: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const key = of(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}

const withShortHolder = (change: Change): Change =>
  change.holder && change.holder.length > HOLDER_CHARS_MAX
    ? { ...change, holder: change.holder.slice(0, HOLDER_CHARS_MAX) }
    : change;
