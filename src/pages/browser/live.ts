/** Follows the changes that the server tells, and says in a word whether it does. */
import type { MovedEvent } from '../../views/live/events.ts';
import type { Cell } from '../../views/shapes.ts';

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
export function follow(address: string, word: HTMLElement | null, followed: Followed): void {
  const url = new URL(address, location.href);
  let source: EventSource | null = null;
  let again: ReturnType<typeof setTimeout> | undefined;
  document.addEventListener('visibilitychange', connectIfSeen);
  connectIfSeen();

  function say(text: string, state: 'on' | 'off'): void {
    if (word === null || word.textContent === text) return;
    word.textContent = text;
    word.className = state;
  }
  function connectIfSeen(): void {
    clearTimeout(again);
    source?.close();
    source = document.visibilityState === 'visible' ? connect() : null;
  }
  function connect(): EventSource {
    const opened = new EventSource(url);
    opened.addEventListener('open', () => {
      say('live', 'on');
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
      say('reconnecting', 'off');
      if (opened === source && opened.readyState === EventSource.CLOSED)
        again = setTimeout(connectIfSeen, AGAIN_MS);
    });
    return opened;
  }
}
