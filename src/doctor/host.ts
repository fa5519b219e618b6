/** What the doctor reads of the host. It changes nothing. */
import { constants } from 'node:fs';
import { open, readdir, readlink, stat } from 'node:fs/promises';

export interface FileStat {
  readonly kind: 'file' | 'folder' | 'socket' | 'other';
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
}

/** What is not there, or may not be read, is null or empty. */
export interface Files {
  /** The text of a regular file, up to TEXT_BYTES_MAX bytes. */
  text(path: string): Promise<string | null>;
  /** The names in a folder, sorted. */
  names(path: string): Promise<readonly string[]>;
  /** Follows links. */
  stat(path: string): Promise<FileStat | null>;
  link(path: string): Promise<string | null>;
}

const TEXT_BYTES_MAX = 2 * 1024 * 1024;

const nullWhenAbsent = <T>(reading: Promise<T>): Promise<T | null> => reading.catch(() => null);

export const realFiles: Files = {
  text: path => nullWhenAbsent(textOf(path)),
  names: async path => ((await nullWhenAbsent(readdir(path))) ?? []).sort(),
  link: path => nullWhenAbsent(readlink(path)),
  stat: path =>
    nullWhenAbsent(
      stat(path).then(found => ({
        kind: found.isFile()
          ? 'file'
          : found.isDirectory()
            ? 'folder'
            : found.isSocket()
              ? 'socket'
              : ('other' as const),
        mode: found.mode & 0o777,
        uid: found.uid,
      })),
    ),
};

/** Files of /proc have no size. A pipe would keep its reader waiting. */
async function textOf(path: string): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if (!(await file.stat()).isFile()) return '';
    const buffer = Buffer.alloc(TEXT_BYTES_MAX);
    let length = 0;
    for (;;) {
      const { bytesRead } = await file.read(buffer, length, TEXT_BYTES_MAX - length, null);
      length += bytesRead;
      if (bytesRead === 0 || length === TEXT_BYTES_MAX) return buffer.toString('utf8', 0, length);
    }
  } finally {
    await file.close();
  }
}
