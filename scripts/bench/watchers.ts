/** What a browser does with a page of the server that is open: it follows the events, and fetches the page anew now and
 *  then. */
import { setTimeout as pause } from 'node:timers/promises';
import { SUBNET } from './programs.ts';

/** As the script of the page: src/pages/browser/refresh.ts. */
const FETCH_EVERY_MS = 2000;

export interface Watchers {
  /** Ends all of them; fails when one of them has failed. */
  close(): Promise<void>;
}

/** Opens so many maps of the first block of the subnet. `admin`: the address of the admin listener. */
export async function openWatchers(admin: string, count: number): Promise<Watchers> {
  const ending = new AbortController();
  const page = `${admin}/subnets/${SUBNET}?block=10.0.0.0/24`;
  const open = async () => {
    const html = await textAt(page);
    const [, live] = /data-live="([^"]+)"/.exec(html) ?? [];
    if (live === undefined) throw new Error(`${page} names no events`);
    const events = await fetch(admin + live.replaceAll('&amp;', '&'), { signal: ending.signal });
    if (!events.ok || events.body === null) throw new Error(`${live}: status ${events.status}`);
    return watch(events.body, page, ending.signal);
  };
  const opened = await Promise.all(Array.from({ length: count }, open));
  return {
    async close() {
      ending.abort();
      await Promise.all(opened.map(({ ended }) => ended));
    },
  };
}

/** The promise is in an object, since opening must not wait for the end. */
function watch(
  events: ReadableStream<Uint8Array>,
  page: string,
  signal: AbortSignal,
): { ended: Promise<void> } {
  let hasMoved = false;
  const read = async () => {
    const decoder = new TextDecoder();
    for await (const chunk of events)
      hasMoved ||= decoder.decode(chunk, { stream: true }).includes('event: moved');
  };
  const fetchNowAndThen = async () => {
    for (; !signal.aborted; await pause(FETCH_EVERY_MS, undefined, { signal }).catch(() => {}))
      if (hasMoved) {
        hasMoved = false;
        await textAt(page);
      }
  };
  const reading = read().catch(error => {
    if (!signal.aborted) throw error;
  });
  const ended = Promise.all([reading, fetchNowAndThen()]).then(() => {});
  ended.catch(() => {}); // close() tells it
  return { ended };
}

async function textAt(url: string): Promise<string> {
  const answer = await fetch(url);
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${url}: status ${answer.status}`);
  return text;
}
