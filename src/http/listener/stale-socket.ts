/** Removes the unix socket of a server that died, and gives a new socket its name. */
import { linkSync, lstatSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { IpamError } from '../../domain/error.ts';
import { isLocked } from '../../store/sqlite/file.ts';
import { withLockFile } from '../../store/sqlite/lock-file.ts';

const ANSWER_TIMEOUT_MS = 2000;
/** How long to wait for another process that starts at the same path. */
const LOCKED_MAX_MS = 5000;

/**
 * Runs `bind`, which gives a socket the name `path`. Before that it removes the socket file there if nobody listens on
 * it: a process that died left it. Throws conflict when a server answers there, or when the file is not a socket.
 *
 * A lock file guards all of it: else two processes that find the same dead socket at once could both remove what is
 * there and bind, and the first would listen on a socket without a name. Where there is no file, none is removed, and
 * only one gets the name.
 */
export async function withFreeName<T>(
  path: string,
  bind: () => Promise<T>,
  lockedMaxMs = LOCKED_MAX_MS,
): Promise<T> {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return await bind();
  try {
    return await withLockFile(`${path}.lock`, lockedMaxMs, async () => {
      await removeStaleSocket(path);
      return await bind();
    });
  } catch (error) {
    throw isLocked(error) ? startsThere(path) : error;
  }
}

async function removeStaleSocket(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket())
    throw new IpamError('conflict', `can't listen on unix:${path}: the file is not a socket`, {
      hint: 'remove it, or give another address',
    });
  if (await isAnswered(path)) throw answeredThere(path);
  rmSync(path, { force: true });
}

const startsThere = (path: string): IpamError =>
  new IpamError('conflict', `can't listen on unix:${path}: another server is starting there`, {
    hint: 'stop it, or give another address',
  });
const answeredThere = (path: string): IpamError =>
  new IpamError('conflict', `can't listen on unix:${path}: another server answers there`, {
    hint: 'stop it, or give another address',
  });

/** Only a refused connection shows that nobody listens. A full queue or a missing permission does not. */
function isAnswered(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ path });
    const settle = (answered: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answered);
    };
    const timer = setTimeout(() => settle(true), ANSWER_TIMEOUT_MS);
    socket.once('connect', () => settle(true));
    socket.once('error', error =>
      settle(!['ECONNREFUSED', 'ENOENT'].includes((error as { code?: string }).code ?? '')),
    );
  });
}

/**
 * Gives the socket that was bound at `hidden` its name, and returns a function that removes the name. Throws conflict
 * when another server was quicker. A socket is not bound at `path` itself, because all runtimes remove the bound name
 * when they close the socket, and by then it may be the name of the next server's socket.
 */
export function nameSocket(hidden: string, path: string): () => void {
  const own = lstatSync(hidden);
  try {
    linkSync(hidden, path);
  } catch (error) {
    throw (error as { code?: string }).code === 'EEXIST' ? answeredThere(path) : error;
  } finally {
    rmSync(hidden, { force: true });
  }
  return () => {
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found?.ino === own.ino && found.dev === own.dev) rmSync(path, { force: true });
  };
}
