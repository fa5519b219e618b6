/** Files for their owner alone: ledgers, keys and passwords. */
import { closeSync, fstatSync, openSync, readFileSync, type Stats, statSync } from 'node:fs';
import { type ErrorCode, IpamError } from '../domain/error.ts';

const ANY_OF_OTHERS = 0o006;
const WRITE_OF_GROUP = 0o020;
const READ_OF_GROUP = 0o040;

/** Reads a text that only its owner may know. Throws bad-request if others can, and what the system throws. `what`:
 *  the setting that names the file. A pipe is nobody else's. */
export function readPrivate(path: string, what: string): string {
  const file = openSync(path, 'r');
  try {
    if (isExposed(fstatSync(file))) throw exposed('bad-request', `${what}: ${path}`, [path], MOUNTED);
    return readFileSync(file, 'utf8');
  } finally {
    closeSync(file);
  }
}

/** Throws store-down if one of the files is there and others can read or change it. */
export function refuseExposed(what: string, paths: readonly string[]): void {
  const open = paths.filter(path => {
    const found = statSync(path, { throwIfNoEntry: false });
    return found !== undefined && isExposed(found);
  });
  if (open.length > 0) throw exposed('store-down', what, open);
}

const INHERITED = /^\/dev\/(fd\/|stdin$)|^\/proc\//;

/** Throws bad-request for a named pipe, which keeps its reader waiting for as long as nobody writes to it. A pipe that was
 *  inherited, as that of `<(…)` in a shell, ends with its writer. */
export function refuseNamedPipe(path: string): void {
  if (INHERITED.test(path) || !statSync(path, { throwIfNoEntry: false })?.isFIFO()) return;
  throw new IpamError('bad-request', `${path} is a named pipe, which may have no writer`, {
    hint: 'give a file',
  });
}

/** A group may read what root owns: then root has chosen the group. */
function isExposed(found: Stats): boolean {
  const forbidden = ANY_OF_OTHERS | WRITE_OF_GROUP | (found.uid === 0 ? 0 : READ_OF_GROUP);
  return found.isFile() && (found.mode & forbidden) !== 0;
}

/** A chmod cannot change what is mounted read-only. */
const MOUNTED = ', or mount the secret with mode=0400 (Docker) or defaultMode: 0400 (Kubernetes)';

const exposed = (code: ErrorCode, what: string, paths: readonly string[], more = ''): IpamError =>
  new IpamError(code, `${what} is open to users other than its owner`, {
    hint: `chmod 600 ${paths.join(' ')}${more}`,
  });
