/** Long work that is done in parts, so that the requests of Docker go on in between. */

const waiting: (() => void)[] = [];

/** Resolves in a later turn of the event loop. In each turn one of those who wait goes on, the first one first: so ten pages
 *  at a time hold the event loop no longer than one. */
export function nextTurn(): Promise<void> {
  return new Promise(resolve => {
    if (waiting.push(resolve) === 1) setImmediate(letOneGo);
  });
}

function letOneGo(): void {
  waiting.shift()?.();
  if (waiting.length > 0) setImmediate(letOneGo);
}
