/** Fetches the page again, and takes from it what changed. */
import { isBefore } from '../../views/live/event-id.ts';
import type { Cells } from './cells.ts';
import type { Word } from './word.ts';

/** The least pause between two fetches. What moved is shown at once; this is for the counts, and for all else. */
const PAUSE_MS = 2000;
const FETCH_MAX_MS = 10_000;
/** The ledger has no such thing any more. */
const GONE = 404;

/** Returns a function that asks for what is new: at once, or after the pause. Calls meanwhile are one. What fails is tried
 *  again after the pause, and so is a page from before the event `after`: the server keeps its counts for a second. A page
 *  that is no more is loaded as it is now. */
export function createRefresh(page: Document, cells: Cells, word: Word): (after?: string) => void {
  const { title } = page; // now: a browser that translates the page changes it later
  let heard = '';
  let isWanted = false;
  let isBusy = false;

  async function run(): Promise<void> {
    isBusy = true;
    while (isWanted) {
      isWanted = false;
      try {
        const madeAfter = await take(page, title, cells);
        isWanted ||= isBefore(madeAfter, heard);
        word.read(true);
      } catch {
        word.read(false);
        isWanted = true;
      }
      await new Promise(resolve => setTimeout(resolve, PAUSE_MS));
    }
    isBusy = false;
  }
  return after => {
    heard = after ?? heard;
    isWanted = true;
    if (!isBusy) void run();
  };
}

/** Returns the last event before the page was made. */
async function take(page: Document, title: string, cells: Cells): Promise<string> {
  const answer = await fetch(location.href, { signal: AbortSignal.timeout(FETCH_MAX_MS) });
  if (answer.status === GONE) await reload();
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const newer = new DOMParser().parseFromString(await answer.text(), 'text/html');
  if (newer.title !== title) await reload(); // this one says why there was no such page
  cells.take(newer);
  for (const part of page.querySelectorAll('[data-fresh]')) {
    const now = newer.querySelector(`[data-fresh="${part.getAttribute('data-fresh')}"]`);
    if (now !== null && !now.isEqualNode(part)) replace(part, now);
  }
  return new URL(newer.body.dataset.live ?? '', location.href).searchParams.get('after') ?? '';
}

async function reload(): Promise<void> {
  location.reload();
  await new Promise(() => {}); // this page ends
}

/** Keeps the focus where it was: on the link to the same place. */
function replace(part: Element, now: Element): void {
  const { activeElement } = document;
  const focused = part.contains(activeElement) ? activeElement?.getAttribute('href') : null;
  part.replaceWith(now);
  if (focused != null) now.querySelector<HTMLElement>(`[href="${CSS.escape(focused)}"]`)?.focus();
}
