/** Clients that look at the live events of a server, as pages do. */
import { get } from 'node:http';

export interface Looking {
  /** How many events each has had. */
  readonly counts: readonly number[];
  /** Resolves when the streams have ended. */
  readonly ended: Promise<void>;
}

/** Opens so many streams at the admin listener; resolves when all of them are served. */
export async function look(admin: string, clients: number): Promise<Looking> {
  const counts = new Array<number>(clients).fill(0);
  const ends: Promise<void>[] = [];
  const open = (i: number) =>
    new Promise<void>((resolve, reject) => {
      const asked = get(`${admin}/api/v1/events`, { agent: false }, response => {
        ends.push(new Promise(end => response.once('close', end)));
        response.on('error', () => {}); // the server ends them without a word
        response.setEncoding('utf8').on('data', (text: string) => {
          resolve();
          counts[i] = (counts[i] ?? 0) + text.split('event: moved').length - 1;
        });
        if (response.statusCode !== 200) reject(new Error(`events: status ${response.statusCode}`));
      });
      asked.once('error', reject);
    });
  await Promise.all(counts.map((_, i) => open(i)));
  return { counts, ended: Promise.all(ends).then(() => {}) };
}
