/** A lock between processes, held on a file. */
import process from 'node:process';
import { createPrivately, whileLocked } from './file.ts';

/**
 * Runs `work` while no other process or call runs one with this file. Throws an error for which `isLocked` holds when
 * that takes longer than `boundMs`. The system ends the lock with the process, however that ends. The file stays: who
 * waits for it would hold one that nobody else can see.
 *
 * No runtime has flock(2). SQLite locks a file in the same way on all three.
 */
export async function withLockFile<T>(path: string, boundMs: number, work: () => Promise<T>): Promise<T> {
  createPrivately(path);
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
  const client = new DatabaseSync(path);
  try {
    client.exec('PRAGMA busy_timeout = 0');
    await whileLocked(() => client.exec('BEGIN EXCLUSIVE'), boundMs);
    return await work();
  } finally {
    client.close();
  }
}
