import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSqlite } from '../src/store/sqlite.ts';
import { contract } from './store.contract.ts';

contract('SQLite', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ec2-ipam-'));
  let now = 1_700_000_000_000;
  const store = openSqlite(join(folder, 'state', 'ledger.sqlite'), { clock: () => now });
  return {
    store,
    advance: ms => {
      now += ms;
    },
    async close() {
      await store.close();
      rmSync(folder, { recursive: true });
    },
  };
});
