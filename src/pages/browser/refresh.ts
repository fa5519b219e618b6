/** Fetches the page again, and takes from it what changed. */
import type { Cells } from './cells.ts';

/** The least pause between two fetches. What moved is shown at once; this is for the counts, and for all else. */
const PAUSE_MS = 2000;
const FETCH_MAX_MS = 10_000;

/** Returns a function that asks for what is new: at once, or after the pause. Calls meanwhile are one. What fails is tried
 *  again after the pause. */
export function createRefresh(page: Document, cells: Cells): () => void {
  let isWanted = false;
  let isBusy = false;

  async function run(): Promise<void> {
    isBusy = true;
    while (isWanted) {
      isWanted = false;
      await take(page, cells).catch(() => {
        isWanted = true;
      });
      await new Promise(resolve => setTimeout(resolve, PAUSE_MS));
    }
    isBusy = false;
  }
  return () => {
    isWanted = true;
    if (!isBusy) void run();
  };
}

async function take(page: Document, cells: Cells): Promise<void> {
  const answer = await fetch(location.href, { signal: AbortSignal.timeout(FETCH_MAX_MS) });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const newer = new DOMParser().parseFromString(await answer.text(), 'text/html');
  cells.take(newer);
  for (const part of page.querySelectorAll('[data-fresh]')) {
    const now = newer.querySelector(`[data-fresh="${part.getAttribute('data-fresh')}"]`);
    if (now !== null && !now.isEqualNode(part)) replace(part, now);
  }
}

/** Keeps the focus where it was: on the link to the same place. */
function replace(part: Element, now: Element): void {
  const { activeElement } = document;
  const focused = part.contains(activeElement) ? activeElement?.getAttribute('href') : null;
  part.replaceWith(now);
  if (focused != null) now.querySelector<HTMLElement>(`[href="${CSS.escape(focused)}"]`)?.focus();
}
