/** A ledger in MariaDB that a store reaches through a gate, and the packets in which its moves go there. */
import type { Allocation, Change } from '../../../src/domain/allocation.ts';
import type { MysqlOptions } from '../../../src/store/mysql/store.ts';
import type { Store } from '../../../src/store/store.ts';
import { makeReady, newRows } from '../ledger.ts';
import { type Gate, openGate } from './gate.ts';
import type { MariaDb } from './mariadb.ts';

export const MOVE_PACKET = 'UPDATE `allocation`';
export const SHAPES = [
  { name: 'one statement', steps: ['SET', 'UPDATE', 'SELECT'], commits: 1 },
  {
    name: 'transaction',
    steps: ['SET', 'START TRANSACTION', 'UPDATE', 'UPDATE', 'COMMIT', 'SELECT'],
    commits: 4,
  },
  {
    name: 'release',
    steps: ['SET', 'START TRANSACTION', 'UPDATE', 'INSERT', 'COMMIT', 'SELECT'],
    commits: 4,
  },
] as const;
export type Shape = (typeof SHAPES)[number];

/** The changes of one packet of this shape. `first` is ready, or held if the shape is a release; `second` is ready. */
export function changesOf(shape: Shape, first: Allocation, second: Allocation, call: string): Change[] {
  if (shape.name === 'release') return [{ row: first, move: 'release', call }];
  const claim: Change = { row: first, move: 'claim', holder: 'web-1' };
  return shape.name === 'transaction' ? [claim, { row: second, move: 'unassign' }] : [claim];
}

/** Whether the history says that this call ended a holding of the address. */
export async function isTold(store: Store, { subnet, ip }: Allocation, call: string): Promise<boolean> {
  const { rows } = await store.history(subnet, ip, 1_000);
  return rows.some(({ endRequest }) => endRequest === call);
}

export interface Gated {
  /** Through the gate. */
  readonly store: Store;
  /** Straight to the server. */
  readonly witness: Store;
  readonly gate: Gate;
  readonly database: string;
  readonly close: () => Promise<void>;
}

/** A database of its own, where 10.0.1.10 and 10.0.1.11 are ready. */
export async function openGated(mariadb: MariaDb, options: Partial<MysqlOptions>): Promise<Gated> {
  const database = await mariadb.migrated();
  const gate = await openGate(mariadb.port);
  const witness = mariadb.store(database);
  await witness.add(newRows(10, 11));
  for (const last of [10, 11]) await makeReady(witness, last);
  const store = mariadb.store(database, options, { port: gate.port });
  const close = async () => {
    await store.close();
    await witness.close();
    await gate.close();
  };
  return { store, witness, gate, database, close };
}
