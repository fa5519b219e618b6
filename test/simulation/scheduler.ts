/**
 * Who goes next, and when time passes: one queue of events, drawn in the order of their moments, those of one
 * millisecond in an order that the seed gives. An `effect` happens outside the process that caused it (the
 * database carries out a statement, whatever becomes of who sent it); everything else waits for its process.
 */
import { Random } from './random.ts';

/** A program that can be frozen and can die: a server, an engine, a command. */
export class Process {
  readonly id: string;
  state: 'running' | 'frozen' | 'dead' = 'running';
  /** What came due while it was frozen. */
  readonly held: Event[] = [];
  /** How long it has been frozen, all in all, and since when it is; in milliseconds. */
  frozenMs = 0;
  frozenSince = 0;
  /** Frozen with its machine, whose monotonic clock stands still meanwhile; for how long that was, all in all. */
  isAsleep = false;
  asleepMs = 0;
  /** How far the time of day on its machine is ahead. */
  dayAheadMs = 0;
  /** When its clocks last went wrong: it woke up, or its time of day was set. */
  unsteadyAt = Number.NEGATIVE_INFINITY;

  constructor(id: string) {
    this.id = id;
  }
}

/** A thing takes less than this. */
export const LATENCY_MS_MAX = 2_000;

interface Event {
  readonly at: number;
  readonly order: number;
  readonly process: Process | null;
  readonly kind: 'effect' | 'resume';
  readonly run: () => void;
  cancelled: boolean;
}

const TURNS_QUEUED = 16;
/** The part of the statements under way that reach the database although their process has died. */
const EFFECT_OUTLIVES = 0.5;

export class Scheduler {
  now = 0;
  steps = 0;
  /** Nothing takes long. */
  isCalm = false;
  readonly random: Random;
  readonly #queue: Event[] = [];

  constructor(seed: number) {
    this.random = new Random(seed);
  }

  /** Something that happens outside its process, after a while. */
  effect(process: Process | null, run: () => void, afterMs = this.latencyMs()): void {
    this.#add('effect', process, run, afterMs);
  }

  /** The process goes on, after a while; never, when it has died by then. */
  resume(process: Process | null, run: () => void, afterMs = this.latencyMs()): void {
    this.#add('resume', process, run, afterMs);
  }

  wait(process: Process | null, ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      if (signal?.aborted) return resolve();
      const event = this.#add('resume', process, resolve, ms);
      signal?.addEventListener('abort', () => {
        if (event !== null) event.cancelled = true;
        resolve();
      });
    });
  }

  /** Work outside the process, whose answer comes back to it: two events. */
  call<T>(process: Process, work: () => Promise<T>, answered: (value: T) => void = () => {}): Promise<T> {
    return new Promise((resolve, reject) => {
      this.effect(process, () => {
        work().then(
          value =>
            this.resume(process, () => {
              answered(value);
              resolve(value);
            }),
          error => this.resume(process, () => reject(error)),
        );
      });
    });
  }

  /** How long a thing takes: most of them about as long as each other, so that their order is open. */
  latencyMs(): number {
    const draw = this.random.next();
    if (draw < 0.8 || this.isCalm) return this.random.below(6);
    if (draw < 0.98) return this.random.below(60);
    return this.random.below(LATENCY_MS_MAX);
  }

  freeze(process: Process): void {
    if (process.state !== 'running') return;
    process.state = 'frozen';
    process.frozenSince = this.now;
  }

  /** Its machine is suspended. */
  sleep(process: Process): void {
    if (process.state !== 'running') return;
    this.freeze(process);
    process.isAsleep = true;
  }

  thaw(process: Process): void {
    if (process.state !== 'frozen') return;
    process.state = 'running';
    const ms = this.now - process.frozenSince;
    process.frozenMs += ms;
    if (process.isAsleep) {
      process.asleepMs += ms;
      process.unsteadyAt = this.now;
    }
    process.isAsleep = false;
    for (const event of process.held.splice(0)) this.resume(process, event.run, this.random.below(4));
  }

  kill(process: Process): void {
    process.state = 'dead';
    process.held.length = 0;
    for (const event of this.#queue)
      if (event.process === process && (event.kind === 'resume' || !this.random.chance(EFFECT_OUTLIVES)))
        event.cancelled = true;
  }

  /** Carries out one event after the other, each with all that follows from it at once, until `isOver` or none
   *  is left. */
  run(isOver: () => boolean): Promise<void> {
    return new Promise(resolve => {
      let ended = false;
      // Between two of them every promise that can go on has gone on; many are queued at a time, since each
      // time the queue runs empty costs a turn of the event loop.
      const turn = () => {
        if (ended) return;
        ended = isOver() || !this.#carryOutNext();
        if (ended) resolve();
      };
      const turns = () => {
        if (ended) return;
        for (let i = 0; i < TURNS_QUEUED; i++) setImmediate(turn);
        setImmediate(turns);
      };
      turns();
    });
  }

  #carryOutNext(): boolean {
    for (;;) {
      const event = this.#take();
      if (event === null) return false;
      this.now = Math.max(this.now, event.at);
      if (event.cancelled) continue;
      if (event.kind === 'resume' && event.process?.state === 'frozen') {
        event.process.held.push(event);
        continue;
      }
      this.steps++;
      event.run();
      return true;
    }
  }

  /** When the next event is due. */
  get nextAt(): number {
    return this.#queue[0]?.at ?? Number.POSITIVE_INFINITY;
  }

  #add(kind: Event['kind'], process: Process | null, run: () => void, afterMs: number): Event | null {
    if (process?.state === 'dead') return null;
    const at = this.now + Math.max(0, Math.round(afterMs));
    const event = { at, order: this.random.next(), process, kind, run, cancelled: false };
    this.#push(event);
    return event;
  }

  // A binary heap: the least is first.
  #push(event: Event): void {
    const heap = this.#queue;
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

  #take(): Event | null {
    const heap = this.#queue;
    const [first] = heap;
    const last = heap.pop();
    if (first === undefined || last === undefined) return null;
    if (heap.length === 0) return first;
    let parent = 0;
    for (;;) {
      let child = 2 * parent + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Event, heap[child] as Event)) child++;
      if (!isBefore(heap[child] as Event, last)) break;
      heap[parent] = heap[child] as Event;
      parent = child;
    }
    heap[parent] = last;
    return first;
  }
}

const isBefore = (a: Event, b: Event): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);
