/** The turns of the event loop, counted where work must leave some to others. */

/** Runs the work, and `other` in each turn until its end. `turn` counts from 1. */
export async function inTurns<T>(work: () => Promise<T>, other: (turn: number) => void): Promise<T> {
  let turn = 0;
  let isOver = false;
  const next = () => {
    if (isOver) return;
    other(++turn);
    setImmediate(next);
  };
  setImmediate(next);
  try {
    return await work();
  } finally {
    isOver = true;
  }
}
