/** Follows the changes that the server tells. */
import type { MovedEvent } from '../../views/live/events.ts';
import type { Cell } from '../../views/shapes.ts';
import type { Word } from './word.ts';

/** How long the page waits before it connects again, where the browser has given up. */
const AGAIN_MS = 2000;

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
  document.addEventListener('visibilitychange', connectIfSeen);
  connectIfSeen();

  function connectIfSeen(): void {
    clearTimeout(again);
    source?.close();
    source = document.visibilityState === 'visible' ? connect() : null;
  }
  function connect(): EventSource {
    const opened = new EventSource(url);
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
