/** Follows the changes that the server tells. */
import type { MovedEvent } from '../../views/live/events.ts';
import type { Cell } from '../../views/shapes.ts';
import type { Word } from './word.ts';

/** How long the page waits before it connects again, where the browser has given up. */
const AGAIN_MS = 2000;
/** A connection of which nothing was heard for so long is taken for lost: the server says something each 15 s. After a sleep, or
 *  behind a tunnel, the browser may not know. */
const SILENT_MS = 40_000;
const LOOK_MS = 5000;

interface Followed {
  /** `id`: of the event. */
  moved(cells: readonly Cell[], id: string): void;
  /** Something may have happened that was not told. */
  missed(): void;
}

/** `address`: of the events after those that the page has. Connected again, the page asks for those that it has missed, and
 *  for what the server has forgotten. While nobody sees it, it is not connected: a browser has six connections to a server,
 *  for all its tabs. */
export function follow(address: string, word: Word, followed: Followed): void {
  const url = new URL(address, location.href);
  let source: EventSource | null = null;
  let again: ReturnType<typeof setTimeout> | undefined;
  /** By the time of day, which goes on while the machine sleeps. */
  let heardAt = 0;
  setInterval(() => {
    if (source === null || Date.now() - heardAt < SILENT_MS) return;
    word.connected(false);
    connectIfSeen();
  }, LOOK_MS);
  document.addEventListener('visibilitychange', connectIfSeen);
  connectIfSeen();

  function connectIfSeen(): void {
    clearTimeout(again);
    source?.close();
    source = document.visibilityState === 'visible' ? connect() : null;
  }
  function connect(): EventSource {
    const opened = new EventSource(url);
    const hear = () => {
      heardAt = Date.now();
    };
    hear();
    for (const type of ['open', 'moved', 'reset', 'beat']) opened.addEventListener(type, hear);
    opened.addEventListener('open', () => {
      word.connected(true);
      followed.missed();
    });
    opened.addEventListener('moved', ({ data, lastEventId }) => {
      if (lastEventId !== '') url.searchParams.set('after', lastEventId);
      const { cells }: MovedEvent = JSON.parse(data);
      followed.moved(cells, lastEventId);
    });
    opened.addEventListener('reset', () => followed.missed());
    // The browser connects again by itself when a connection broke, but not after an error of HTTP.
    opened.addEventListener('error', () => {
      word.connected(false);
      if (opened === source && opened.readyState === EventSource.CLOSED)
        again = setTimeout(connectIfSeen, AGAIN_MS);
    });
    return opened;
  }
}
