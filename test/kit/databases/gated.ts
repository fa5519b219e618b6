/** A ledger in MariaDB that a store reaches through a gate, and the packets in which its moves go there. */
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
] as const;
export type Shape = (typeof SHAPES)[number];

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
  const database = await mariadb.fresh();
  const gate = await openGate(mariadb.port);
  const witness = mariadb.store(database);
  await witness.migrate();
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
