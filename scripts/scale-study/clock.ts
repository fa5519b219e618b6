/** A clock that jumps from one event to the next: a day passes in as long as its work takes. */

interface Event {
  readonly at: number;
  /** Events of one millisecond happen in the order in which they were planned. */
  readonly order: number;
  readonly run: () => void;
}

export interface SimulatedClock {
  /** Milliseconds since 1970. */
  now(): number;
  wait(ms: number): Promise<void>;
  at(moment: number, run: () => void): void;
  /** Carries out what is due up to then, each event with all that follows from it at once. */
  runUntil(moment: number): Promise<void>;
}

/** Turns of the event loop that are asked for together: each time its queue runs empty costs one more. */
const TURNS_QUEUED = 32;

export function simulatedClock(startAt: number): SimulatedClock {
  const events = earliestFirst();
  let now = startAt;
  let planned = 0;

  const at = (moment: number, run: () => void): void =>
    events.add({ at: Math.max(Math.round(moment), now), order: planned++, run });

  /** One event; false: none is due. Before it every promise that can go on has gone on. */
  function step(until: number): boolean {
    const next = events.take(until);
    if (next === null) return false;
    now = next.at;
    next.run();
    return true;
  }

  return {
    now: () => now,
    at,
    wait: ms => new Promise(resolve => at(now + ms, resolve)),
    runUntil: moment =>
      new Promise((resolve, reject) => {
        let ended = false;
        const turn = () => {
          if (ended) return;
          try {
            ended = !step(moment);
          } catch (error) {
            ended = true;
            reject(error);
          }
          if (!ended) return;
          now = Math.max(now, moment);
          resolve();
        };
        const turns = () => {
          if (ended) return;
          for (let i = 0; i < TURNS_QUEUED; i++) setImmediate(turn);
          setImmediate(turns);
        };
        setImmediate(turns);
      }),
  };
}

/** A binary heap of events. */
function earliestFirst() {
  const heap: Event[] = [];

  function add(event: Event): void {
    let child = heap.push(event) - 1;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      const above = heap[parent] as Event;
      if (!isBefore(event, above)) break;
      heap[child] = above;
      child = parent;
    }
    heap[child] = event;
  }

  /** The earliest, when it is due by `until`. */
  function take(until: number): Event | null {
    const [first] = heap;
    if (first === undefined || first.at > until) return null;
    const last = heap.pop() as Event;
    if (heap.length > 0) sink(last);
    return first;
  }

  function sink(event: Event): void {
    let parent = 0;
    for (;;) {
      let child = 2 * parent + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Event, heap[child] as Event)) child++;
      if (!isBefore(heap[child] as Event, event)) break;
      heap[parent] = heap[child] as Event;
      parent = child;
    }
    heap[parent] = event;
  }

  return { add, take };
}

const isBefore = (a: Event, b: Event): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);
