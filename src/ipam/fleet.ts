/** The servers that use this ledger, as far as this one knows. */
import type { LedgerServer, Reading } from '../store/store.ts';

/** One that did not stop in good order may only have been frozen, and come back, for so long. */
const MAY_RETURN_FOR_MS = 600_000;
/** What was noted longer ago says nothing of who has begun since. */
const NOTED_FOR_MS = 15_000;

export interface Fleet {
  /** What the ledger notes of its servers, this one included. */
  note(servers: Reading<LedgerServer>): void;
  /** No other has been noted twice in a row, so that what this one remembers of its own moves is the last that was
   *  done. A server that begins is noticed with the next note only. */
  readonly isAlone: boolean;
}

export function fleetOf(server: string, clock: () => number): Fleet {
  let notedAt = Number.NEGATIVE_INFINITY;
  let aloneInARow = 0;
  return {
    note({ now, rows }) {
      const running = rows.filter(row => row.stoppedAt === null);
      const others = running.filter(row => row.id !== server && now - row.seenAt < MAY_RETURN_FOR_MS);
      aloneInARow = others.length === 0 ? aloneInARow + 1 : 0;
      notedAt = clock();
    },
    get isAlone() {
      return aloneInARow >= 2 && clock() - notedAt < NOTED_FOR_MS;
    },
  };
}
