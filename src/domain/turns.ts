/** Lets keys take turns in a queue: who comes with many waits behind who comes with one. A key is an ENI or a host. */

/** What has no key is work of the server itself. */
export const NO_KEY = '';

/** A key that had so many turns more than its steady rate brings is greedy. */
const MODEST_MAX = 10;
/** Keys that are remembered; at this size those that are owed nothing are forgotten, and at last the oldest. */
const KEYS_MAX = 10_000;

export interface Turns {
  /** Returns the place of one more that waits for the key. Lower places go first: the n-th of a key is in the n-th
   *  round from now. */
  arrive(key: string): number;
  /** Records that one of the key at this place had its turn. */
  served(key: string, place: number): void;
  /** Whether the key had many turns lately. Never true of NO_KEY. */
  isGreedy(key: string): boolean;
}

interface Key {
  /** The place of the last one that came. */
  place: number;
  /** The turns that it had beyond its steady rate, at `at`. */
  had: number;
  at: number;
}

/** `clock` is monotonic, in milliseconds. `perSecond` is the steady rate: so many turns a second make no key greedy. */
export function createTurns(clock: () => number, perSecond: number): Turns {
  const keys = new Map<string, Key>();
  /** The round that is under way. */
  let round = 0;

  const hadOf = ({ had, at }: Key): number => Math.max(0, had - ((clock() - at) / 1000) * perSecond);

  function keyOf(name: string): Key {
    const known = keys.get(name);
    if (known !== undefined) return known;
    if (keys.size >= KEYS_MAX) forgetSome();
    const key = { place: round, had: 0, at: clock() };
    keys.set(name, key);
    return key;
  }

  function forgetSome(): void {
    for (const [name, key] of keys) if (key.place <= round && hadOf(key) === 0) keys.delete(name);
    const [oldest] = keys.size >= KEYS_MAX ? keys.keys() : [];
    if (oldest !== undefined) keys.delete(oldest);
  }

  return {
    arrive(name) {
      const key = keyOf(name);
      key.place = Math.max(key.place, round) + 1;
      return key.place;
    },
    served(name, place) {
      round = Math.max(round, place);
      const key = keyOf(name);
      key.had = hadOf(key) + 1;
      key.at = clock();
    },
    isGreedy(name) {
      const key = name === NO_KEY ? undefined : keys.get(name);
      return key !== undefined && hadOf(key) >= MODEST_MAX;
    },
  };
}
