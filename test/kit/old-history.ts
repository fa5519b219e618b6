/** A history as it was before 0011_holdings, with a record for each move; and what is told of it afterwards. */
import type { Store } from '../../src/store/store.ts';
import { ip, SUBNET } from './rows.ts';
import { assert } from './uvu.ts';

type Move = [last: number, generation: number, at: number, move: string, holder: string | null, call: string];
const MOVES: readonly Move[] = [
  [10, 2, 1_000, 'claim', 'web', 'call-1'],
  [10, 5, 2_000, 'release', null, 'end-1'],
  // Its claim was made by a server without the history.
  [10, 9, 3_000, 'retire', null, 'end-2'],
  [10, 11, 4_000, 'claim', 'lost', 'call-3'],
  [10, 12, 5_000, 'claim', 'db', 'call-4'],
  [10, 13, 6_000, 'undo', null, 'end-4'],
  [11, 3, 2_500, 'claim', 'api', 'call-5'],
  [12, 4, 2_600, 'surrender', null, 'end-6'],
];
const recordOf = ([last, generation, at, move, holder, call]: Move): string => {
  const isClaim = move === 'claim';
  const cause = isClaim ? 'request' : 'release';
  const instance = isClaim ? "'i-0a'" : 'NULL';
  const server = isClaim ? 'aaaaaaaa' : 'bbbbbbbb';
  const name = holder === null ? 'NULL' : `'${holder}'`;
  return `('${SUBNET}', '${ip(last)}', ${generation}, ${at}, '${move}', 'eni-0a', ${instance}, ${name}, '${cause}', '${call}', '${server}')`;
};
export const FILL_OLD_HISTORY = `INSERT INTO history
  (subnet, ip, generation, at, move, iface, instance, holder, cause, request, server) VALUES ${MOVES.map(recordOf).join()}`;

/** What is told of it: each end with the claim right before it. */
const TOLD: Readonly<Record<number, readonly unknown[][]>> = {
  10: [
    [5_000, 6_000, 'i-0a', 'db', 'call-4', 'aaaaaaaa', 'end-4'],
    [null, 3_000, null, null, null, null, 'end-2'],
    [1_000, 2_000, 'i-0a', 'web', 'call-1', 'aaaaaaaa', 'end-1'],
  ],
  11: [],
  12: [[null, 2_600, null, null, null, null, 'end-6']],
};
export async function assertOldHistory(store: Store): Promise<void> {
  for (const [last, told] of Object.entries(TOLD)) {
    const { rows } = await store.history(SUBNET, ip(Number(last)), 100);
    const found = rows.map(one => [
      ...[one.since, one.until, one.instance, one.container, one.request, one.server, one.endRequest],
    ]);
    assert.equal(found, told, `of ${ip(Number(last))}`);
  }
}
