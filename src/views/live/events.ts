/** What `/api/v1/events` sends. Each event `moved` has the newest state of addresses that moved; `reset` has no data and
 *  says that some were missed, so that the page is to be loaded anew. `beat` has none either: the connection works. */
import * as v from 'valibot';
import { Cell, described } from '../shapes.ts';

export const MovedEvent = v.object({
  cells: described(v.array(Cell), 'The newest cell of each address that moved.'),
});
export type MovedEvent = v.InferOutput<typeof MovedEvent>;
