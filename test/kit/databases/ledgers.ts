/** The ledger as a test holds it from outside: it reads the rows, and keeps a program from writing at one point. */
import { join } from 'node:path';
import process from 'node:process';
import type { DatabaseSync } from 'node:sqlite';
import { removeFolder, tempFolder } from '../folders.ts';
import { type Gate, openGate } from './gate.ts';
import { type MariaDb, startMariadb } from './mariadb.ts';

export interface LedgerRow {
  readonly ip: string;
  readonly status: string;
  readonly iface: string | null;
  readonly holder: string | null;
}
/** Lets go of what was held. */
export type LetGo = () => Promise<void>;

export interface Ledger {
  /** For the environment of a program that works in it. */
  readonly env: Readonly<Record<string, string>>;
  /** All that is not free or reserved. */
  rows(): Promise<LedgerRow[]>;
  close(): Promise<void>;
}
/** MariaDB behind a gate. */
export interface MariaLedger extends Ledger {
  readonly gate: Gate;
  readonly database: MariaDb;
}
export interface SqliteLedger extends Ledger {
  /** Takes the write lock of the file. */
  lock(): LetGo;
}

const SELECT = "SELECT ip, status, iface, holder FROM allocation WHERE status NOT IN ('free', 'reserved')";

export async function mariaLedger(): Promise<MariaLedger> {
  const database = await startMariadb();
  await database.create('ipam');
  const gate = await openGate(database.port);
  const folder = tempFolder();
  return {
    database,
    gate,
    env: {
      EC2_IPAM_STORE: `mysql://${database.user}@127.0.0.1:${gate.port}/ipam?ssl=off`,
      EC2_IPAM_STORE_PASSWORD: database.password,
      EC2_IPAM_STATE_DIR: folder,
    },
    rows: async () => (await database.run('ipam', SELECT)) as unknown as LedgerRow[],
    async close() {
      await gate.close();
      await database.stop();
      removeFolder(folder);
    },
  };
}

export function sqliteLedger(folder = tempFolder()): SqliteLedger {
  const path = join(folder, 'ledger.sqlite');
  const open = (): DatabaseSync => {
    const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
    const db = new DatabaseSync(path);
    db.exec('PRAGMA busy_timeout = 5000');
    return db;
  };
  return {
    env: { EC2_IPAM_STATE_DIR: folder },
    async rows() {
      const db = open();
      const rows = db.prepare(SELECT).all() as unknown as LedgerRow[];
      db.close();
      return rows;
    },
    lock() {
      const db = open();
      db.exec('BEGIN IMMEDIATE');
      return async () => {
        db.exec('ROLLBACK');
        db.close();
      };
    },
    close: async () => removeFolder(folder),
  };
}
