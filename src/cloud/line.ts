/** Lets few calls at a time ask the ledger for a permit, so that those that come later, of other ENIs, are not behind all
 *  that one ENI has asked for: a permit of the ledger is given in the order of the questions, up to a minute ahead. */
import type { Turns } from '../domain/turns.ts';
import { inLine, type PermitAsked, WAITING_MAX } from './permit-queue.ts';

/** Calls of modest ENIs that ask at the same time: at first, and while all get their permits at once. Of greedy ENIs one
 *  call asks at a time. */
const ASKING_FIRST = 2;
const ASKING_MAX = 16;

export interface Line {
  /** Resolves when it is the call's turn to ask: 'late' when it was not by its `until` or before its signal aborts,
   *  'full' when too many wait that go before it. */
  enter(asked: PermitAsked): Promise<Place | 'late' | 'full'>;
}

/** The turn of one call. */
export interface Place {
  /** The call has its permit, which is good at once. */
  granted(): void;
  /** The call has its permit, and waits until that is good. Until the call leaves, nobody asks. */
  owes(): void;
  leave(): void;
}

interface Waiter extends PermitAsked {
  readonly place: number;
  readonly end: (how: Place | 'full') => void;
}

interface Parts {
  readonly turns: Turns;
  readonly clock: () => number;
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
}

export function createLine({ turns, clock, wait }: Parts): Line {
  let waiting: Waiter[] = [];
  const asking = { greedy: 0, modest: 0 };
  let askingMax = ASKING_FIRST;
  /** Calls that have a permit for later. */
  let owing = 0;

  const kindOf = ({ turn }: PermitAsked) => (turns.isGreedy(turn) ? 'greedy' : 'modest');
  const mayAsk = (kind: keyof typeof asking): boolean =>
    owing === 0 && asking[kind] < (kind === 'greedy' ? 1 : askingMax);

  function serve(): void {
    if (waiting.length === 0) return;
    const gone = new Set<Waiter>();
    for (const { waiter } of inLine(waiting)) {
      const kind = kindOf(waiter);
      if (mayAsk(kind)) {
        gone.add(waiter);
        waiter.end(begin(waiter, kind));
      } else if (kind === 'modest') break;
    }
    waiting = waiting.filter(waiter => !gone.has(waiter));
  }

  function begin({ turn, place }: Waiter, kind: keyof typeof asking): Place {
    turns.served(turn, place);
    asking[kind]++;
    let isOwing = false;
    return {
      granted() {
        askingMax = Math.min(askingMax * 2, ASKING_MAX);
      },
      owes() {
        isOwing = true;
        owing++;
        askingMax = 1;
      },
      leave() {
        asking[kind]--;
        if (isOwing) owing--;
        serve();
      },
    };
  }

  /** When too many wait, the last in line is refused: it is one of the ENI that asks for most. */
  function refuseLast(): void {
    const last = waiting.length > WAITING_MAX ? inLine(waiting).at(-1)?.waiter : undefined;
    last?.end('full');
    waiting = waiting.filter(waiter => waiter !== last);
  }

  return {
    async enter(asked) {
      const { signal, until } = asked;
      const { promise, resolve } = Promise.withResolvers<Place | 'full'>();
      let isOver = false;
      const end: Waiter['end'] = how => {
        isOver = true;
        resolve(how);
      };
      const waiter = { ...asked, place: turns.arrive(asked.turn), end };
      waiting.push(waiter);
      serve();
      refuseLast();
      if (isOver) return await promise;
      const over = new AbortController();
      const either = signal === undefined ? over.signal : AbortSignal.any([over.signal, signal]);
      await Promise.race([promise, wait(Math.max(0, until - clock()), either)]);
      over.abort();
      if (isOver) return await promise;
      waiting = waiting.filter(one => one !== waiter);
      return 'late';
    },
  };
}
