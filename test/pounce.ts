// Looks at a ledger's file without a pause until a row on the ENI has the status; takes the write lock in that
// moment, and keeps it until its input ends: pounce.ts FILE ENI STATUS.
import { writeSync } from 'node:fs';
import process from 'node:process';
import { DatabaseSync } from 'node:sqlite';

const LOOK_MAX_MS = 20_000;
const [, , path = '', eni = '', status = ''] = process.argv;

const db = new DatabaseSync(path);
db.exec('PRAGMA busy_timeout = 0');
const look = db.prepare('SELECT 1 FROM allocation WHERE iface = ? AND status = ? LIMIT 1');
const lock = (): boolean => {
  try {
    db.exec('BEGIN IMMEDIATE');
    return true;
  } catch {
    return false; // the writer has not ended its own transaction yet
  }
};

look.get(eni, status);
writeSync(1, 'looking\n');
const deadline = performance.now() + LOOK_MAX_MS;
while (look.get(eni, status) === undefined || !lock())
  if (performance.now() > deadline) throw new Error(`no row on ${eni} became ${status}`);
writeSync(1, 'held\n');
process.stdin.resume().on('end', () => process.exit());
