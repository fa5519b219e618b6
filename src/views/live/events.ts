/** What `/api/v1/events` sends. Each event `moved` has the newest state of addresses that moved; `reset` has no data and
 *  says that some were missed, so that the page is to be loaded anew. */
import * as v from 'valibot';
import { Cell } from '../shapes.ts';

export const MovedEvent = v.object({ cells: v.array(Cell) });
export type MovedEvent = v.InferOutput<typeof MovedEvent>;
