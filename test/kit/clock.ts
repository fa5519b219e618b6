/**
 * Simulated time: it jumps from one event to the next. Simulated processes can be frozen and can die. An `effect`
 * happens outside its process, as when a database carries out a statement of a client that has died. All other events
 * wait until their process runs.
 */
import { Random } from './random.ts';

/** A simulated process: a server, an engine or a command. */
export class Process {
  readonly id: string;
  state: 'running' | 'frozen' | 'dead' = 'running';
  /** Events that were due while it was frozen. */
  readonly held: Event[] = [];
  /** How long it was frozen in all, and since when it is frozen, in milliseconds. */
  frozenMs = 0;
  frozenSince = 0;
  /** When it last went on, and how long it was frozen until then. */
  wentOn = { at: 0, afterMs: 0 };
  /** Frozen with its machine, whose monotonic clock stands still; and for how long in all. */
  isAsleep = false;
  asleepMs = 0;
  /** How far the time of day on its machine is ahead. */
  dayAheadMs = 0;
  /** When its machine last woke up, or its time of day was last set. */
  unsteadyAt = Number.NEGATIVE_INFINITY;

  constructor(id: string) {
    this.id = id;
  }
}

interface Event {
  readonly at: number;
  readonly order: number;
  readonly process: Process | null;
  readonly kind: 'effect' | 'resume';
  readonly run: () => void;
  isCancelled: boolean;
}

export interface ClockOptions {
  readonly startAt?: number;
  /** Draws latencies, and the order of the events of one millisecond. Absent: there are no latencies, and these
   *  events happen in the order in which they were planned. */
  readonly seed?: number;
  /** Nothing that is simulated uses the event loop, so that promises alone are left to run between two events.
   *  Quicker. */
  readonly isClosed?: boolean;
  /** Time passes by itself while anything waits. Absent: only in `advance` and `run`. */
  readonly isFree?: boolean;
}

/** Every latency is below this. */
export const LATENCY_MS_MAX = 2_000;
/** Turns of the event loop before each event: by then the work of the one before has ended or waits for time to
 *  pass. */
const IDLE_TURNS = 3;
/** Events in one turn of the event loop, if the clock is closed. */
const EVENTS_PER_TURN = 16;
/** The part of the effects under way that still happen when their process dies. */
const EFFECT_OUTLIVES = 0.5;

export class Clock {
  now: number;
  steps = 0;
  /** Latencies are short. */
  isCalm = false;
  readonly random: Random;
  readonly #options: ClockOptions;
  /** The last is the earliest. */
  readonly #queue: Event[] = [];
  #planned = 0;
  #isRunning = false;

  constructor(options: ClockOptions = {}) {
    this.now = options.startAt ?? 0;
    this.random = new Random(options.seed ?? 0);
    this.#options = options;
  }

  /** Runs it at that time, or now if it has passed. */
  at(moment: number, run: () => void): void {
    this.#add('effect', null, run, moment - this.now);
  }

  /** Runs it outside the process, after a latency. */
  effect(process: Process | null, run: () => void, afterMs = this.latencyMs()): void {
    this.#add('effect', process, run, afterMs);
  }

  /** Runs it in the process, after a latency; never if the process has died by then. */
  resume(process: Process | null, run: () => void, afterMs = this.latencyMs()): void {
    this.#add('resume', process, run, afterMs);
  }

  /** Resolves after `ms`, or when the signal is aborted; never if the process has died by then. */
  waitIn(process: Process | null, ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      if (signal?.aborted) return resolve();
      const event = this.#add('resume', process, end, ms);
      function end() {
        if (event !== null) event.isCancelled = true;
        signal?.removeEventListener('abort', end); // it may outlive many waits
        resolve();
      }
      signal?.addEventListener('abort', end);
    });
  }
  wait = (ms: number, signal?: AbortSignal): Promise<void> => this.waitIn(null, ms, signal);

  /** Work outside the process whose answer returns to it: two events. */
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

  /** A latency. Most are about as long as each other, so that the order of what they delay is open. */
  latencyMs(): number {
    if (this.#options.seed === undefined) return 0;
    const draw = this.random.next();
    if (draw < 0.8 || this.isCalm) return this.random.below(6);
    return this.random.below(draw < 0.98 ? 60 : LATENCY_MS_MAX);
  }

  freeze(process: Process): void {
    if (process.state !== 'running') return;
    process.state = 'frozen';
    process.frozenSince = this.now;
  }

  /** Suspends its machine. */
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
    process.wentOn = { at: this.now, afterMs: ms };
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
        event.isCancelled = true;
  }

  /** Lets so much time pass. */
  async advance(ms: number, isOver = () => false): Promise<void> {
    const until = this.now + ms;
    await this.run(() => isOver() || this.nextAt > until);
    this.now = Math.max(this.now, until);
  }

  /** Runs one event after the other until `isOver` or none is left. Throws what an event throws. */
  run(isOver: () => boolean): Promise<void> {
    const { isClosed } = this.#options;
    return new Promise((resolve, reject) => {
      let ended = false;
      let idleTurns = 0;
      const turn = () => {
        if (ended || (!isClosed && ++idleTurns < IDLE_TURNS)) return;
        idleTurns = 0;
        try {
          ended = isOver() || !this.#carryOutNext();
          if (ended) resolve();
        } catch (error) {
          ended = true;
          reject(error);
        }
      };
      // Many are queued at a time, since each time that the queue runs empty costs a turn of the event loop.
      const turns = () => {
        if (ended) return;
        for (let i = 0; i < (isClosed ? EVENTS_PER_TURN : 1); i++) setImmediate(turn);
        setImmediate(turns);
      };
      turns();
    });
  }

  #carryOutNext(): boolean {
    for (;;) {
      const event = this.#queue.pop();
      if (event === undefined) return false;
      if (event.isCancelled) continue;
      this.now = Math.max(this.now, event.at);
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
    while (this.#queue.at(-1)?.isCancelled) this.#queue.pop();
    return this.#queue.at(-1)?.at ?? Number.POSITIVE_INFINITY;
  }

  #add(kind: Event['kind'], process: Process | null, run: () => void, afterMs: number): Event | null {
    if (process?.state === 'dead') return null;
    const at = this.now + Math.max(0, Math.round(afterMs));
    const order = this.#options.seed === undefined ? this.#planned++ : this.random.next();
    const event = { at, order, process, kind, run, isCancelled: false };
    insert(this.#queue, event);
    if (this.#options.isFree && !this.#isRunning) void this.#pass();
    return event;
  }

  async #pass(): Promise<void> {
    this.#isRunning = true;
    await this.run(() => false);
    this.#isRunning = false;
  }
}

const isBefore = (a: Event, b: Event): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);

/** Inserts the event before those that are due earlier. */
function insert(queue: Event[], event: Event): void {
  let [low, high] = [0, queue.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isBefore(event, queue[middle] as Event)) low = middle + 1;
    else high = middle;
  }
  queue.splice(low, 0, event);
}
