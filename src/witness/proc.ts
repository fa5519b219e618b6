/** Reads /proc: what is gone meanwhile is nothing, and what may not be read is an error. */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { IpamError } from '../domain/error.ts';

/** Codes of a process that has ended. A zombie has no namespaces: EINVAL. */
const GONE = ['ENOENT', 'ESRCH', 'EINVAL'];

/** Returns what `read` returns; null when the process has ended. Throws unavailable when it may not be read. */
async function unlessGone<T>(path: string, read: () => Promise<T>): Promise<T | null> {
  try {
    return await read();
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (GONE.includes(code)) return null;
    throw new IpamError('unavailable', `${path} cannot be read: ${code}`, {
      hint: 'run the server as root, with CAP_SYS_PTRACE',
    });
  }
}

export const textOf = (path: string): Promise<string | null> =>
  unlessGone(path, () => readFile(path, 'utf8'));
export const linkOf = (path: string): Promise<string | null> => unlessGone(path, () => readlink(path));
export const namesIn = (path: string): Promise<string[] | null> => unlessGone(path, () => readdir(path));

/** The inode of a namespace or socket in a link such as `net:[4026531840]`. */
export const inodeIn = (link: string | null): string | null => link?.match(/^\w+:\[(\d+)\]$/)?.[1] ?? null;

/** The process ids, lowest first. */
export async function pidsIn(proc: string): Promise<number[]> {
  const names = (await namesIn(proc)) ?? [];
  return names
    .filter(name => /^\d+$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);
}

/** The addresses of the interfaces of a network namespace, from its `fib_trie`: those with a local route. Interfaces
 *  that are down are there too. */
export function addressesIn(fibTrie: string): string[] {
  const found = new Set<string>();
  let ip = '';
  for (const line of fibTrie.split('\n')) {
    ip = line.match(/^\s*\|-- (\d+\.\d+\.\d+\.\d+)$/)?.[1] ?? ip;
    if (/^\s*\/32 host LOCAL$/.test(line)) found.add(ip);
  }
  return [...found];
}

/** Network namespaces that are mounted, with the path of the mount, from a `mountinfo`. */
export function mountedNetns(mountinfo: string): { inode: string; path: string }[] {
  return mountinfo.split('\n').flatMap(line => {
    const [, , , root = '', path = ''] = line.split(' ');
    const inode = root.match(/^net:\[(\d+)\]$/)?.[1];
    return inode === undefined ? [] : [{ inode, path: path.replace(/\\([0-7]{3})/g, unescaped) }];
  });
}
const unescaped = (_: string, octal: string): string => String.fromCharCode(Number.parseInt(octal, 8));
