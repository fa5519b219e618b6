// FILE: migrates the ledger in the file and adds an address, as a server does when it starts.
import process from 'node:process';
import { createSqliteStore } from '../../../src/store/sqlite/store.ts';
import { newRows } from '../../kit/ledger.ts';

const [path = ''] = process.argv.slice(2);
const store = createSqliteStore(path);
await store.migrate();
await store.add(newRows(10));
await store.close();
