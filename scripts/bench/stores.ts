/** The two stores of the bundle, each on the disk of the temporary folder and as durable as it comes. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import type { MariaDb } from '../../test/kit/databases/mariadb.ts';
import type { StoreAddress } from './messages.ts';

export const STORE_KINDS = ['sqlite', 'mariadb'] as const;
export type StoreKind = (typeof STORE_KINDS)[number];

/** A limit opens a connection for each client, beside those of the servers. */
const CONNECTIONS_MAX = 1_000;

/** An empty store. */
export interface EmptyStore {
  /** For the environment of the program that fills it. */
  readonly env: Readonly<Record<string, string>>;
  /** Copies the ledger that has been made there to one like it, for the limits. */
  copy(): Promise<{ readonly copied: StoreAddress; readonly ms: number }>;
}
export type Stores = (kind: StoreKind) => Promise<EmptyStore>;

/** `folder` exists and is removed by its owner. `mariadb` is started when it is first needed. */
export function storesIn(folder: string, mariadb: () => Promise<MariaDb>): Stores {
  let made = 0;
  return async kind => {
    const name = `ledger${++made}`;
    const stateFolder = join(folder, name);
    mkdirSync(stateFolder);
    if (kind === 'sqlite') return sqliteStore(stateFolder);
    return await mariadbStore(await mariadb(), name, stateFolder);
  };
}

function sqliteStore(stateFolder: string): EmptyStore {
  const copy = join(stateFolder, 'copy.sqlite');
  return {
    env: { EC2_IPAM_STATE_DIR: stateFolder },
    async copy() {
      const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
      const db = new DatabaseSync(join(stateFolder, 'ledger.sqlite'));
      const startedAt = performance.now();
      db.prepare('VACUUM INTO ?').run(copy);
      const ms = performance.now() - startedAt;
      db.close();
      return { copied: { kind: 'sqlite', path: copy }, ms };
    },
  };
}

async function mariadbStore(mariadb: MariaDb, name: string, stateFolder: string): Promise<EmptyStore> {
  const copy = `${name}_copy`;
  await mariadb.create(name, copy);
  await mariadb.run(name, `SET GLOBAL max_connections = ${CONNECTIONS_MAX}`);
  return {
    env: {
      EC2_IPAM_STATE_DIR: stateFolder,
      EC2_IPAM_STORE: mariadb.url(name),
      EC2_IPAM_STORE_PASSWORD: mariadb.password,
    },
    async copy() {
      const columns = await mariadb.run(
        name,
        'SELECT column_name AS name FROM information_schema.columns WHERE table_schema = DATABASE()' +
          " AND table_name = 'allocation' AND extra NOT LIKE '%GENERATED%'",
      );
      const list = columns.map(column => `\`${column.name}\``).join();
      await mariadb.run(name, `CREATE TABLE ${copy}.allocation LIKE allocation`);
      const startedAt = performance.now();
      await mariadb.run(name, `INSERT INTO ${copy}.allocation (${list}) SELECT ${list} FROM allocation`);
      return {
        copied: { kind: 'mariadb', url: mariadb.url(copy), password: mariadb.password },
        ms: performance.now() - startedAt,
      };
    },
  };
}
