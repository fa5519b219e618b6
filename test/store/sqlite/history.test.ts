// Goal: a question of the history is answered right after 10,000 moves, and among them. Method: two stores on one file,
// which take turns; what they noted themselves.
import { join } from 'node:path';
import { createSqliteStore } from '../../../src/store/sqlite/store.ts';
import { removeFolder, tempFolder } from '../../kit/folders.ts';
import { byLength } from '../../kit/length.ts';
import { suite } from '../../kit/uvu.ts';
import { twoWriters } from '../two-writers.ts';

const MOVES = byLength({
  full: 10_000,
  short: 2_000,
  leftOut: '8,000 of 10,000 moves in the history of SQLite',
});

const history = suite('history: SQLite');
history(`${MOVES} moves by two stores: every holding is told, as both noted it`, async () => {
  const folder = tempFolder();
  const path = join(folder, 'ledger.sqlite');
  const stores = [
    createSqliteStore(path, { origin: 'server-1', lockedMaxMs: 60_000 }),
    createSqliteStore(path, { origin: 'server-2', lockedMaxMs: 60_000 }),
  ] as const;
  await stores[0].migrate();
  await twoWriters(stores, MOVES);
  for (const store of stores) await store.close();
  removeFolder(folder);
});
history.run();
