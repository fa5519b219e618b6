/** The script of the pages. Without it they are the same, but stand still. */
import { createCells } from './cells.ts';
import { follow } from './live.ts';
import { createRefresh } from './refresh.ts';
import { createWord } from './word.ts';

const { live, every, now } = document.body.dataset;
/** The ledger's clock, when this page was made and thus about now, is ahead of ours by so much. */
const aheadMs = Number(now ?? Date.now()) - Date.now();

const cells = createCells(document, () => Date.now() + aheadMs);
const word = createWord(document.getElementById('live'));
const refresh = createRefresh(document, cells, word);
if (live !== undefined)
  follow(live, word, {
    moved(moved, id) {
      cells.move(moved);
      refresh(id);
    },
    missed: () => refresh(),
  });
if (every !== undefined)
  setInterval(() => {
    if (document.visibilityState === 'visible') refresh();
  }, Number(every));
