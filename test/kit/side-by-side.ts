/** Tests that wait more than they work, several at a time. */
import type { suite } from './uvu.ts';

/**
 * Returns what adds a test to the suite. The bodies run in the order in which they are added, each in one of so many
 * lanes, from when the suite begins; a test ends as its body did.
 */
export function sideBySide<Lane>(
  test: ReturnType<typeof suite>,
  count: number,
  open: () => Promise<Lane>,
  close: (lane: Lane) => Promise<void>,
): (name: string, body: (lane: Lane) => Promise<void>) => void {
  const waiting: ((lane: Lane) => Promise<void>)[] = [];
  let lanes: readonly Lane[] = [];
  test.before(async () => {
    lanes = await Promise.all(Array.from({ length: count }, open));
    for (const lane of lanes)
      void (async () => {
        for (let run = waiting.shift(); run !== undefined; run = waiting.shift()) await run(lane);
      })();
  });
  test.after(async () => {
    await Promise.all(lanes.map(close));
  });
  return (name, body) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    promise.catch(() => {}); // its test may not have begun
    waiting.push(lane => body(lane).then(resolve, reject));
    test(name, () => promise);
  };
}
