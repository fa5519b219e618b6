/** What is done in a history, in order; each thing a few events or some time after the one before. */
import type { Random } from '../kit/random.ts';

/** What may be done, and how often it is drawn. */
const WEIGHTS = {
  // What engines do.
  run: 26,
  'run named': 6,
  stop: 14,
  restart: 7,
  'restart named': 3,
  'hang up': 5,
  'crowd hangs up': 2,
  'clients change servers': 2,
  'release comes late': 1.5,
  'network create': 2,
  'network create fails': 2,
  'network rm': 1,
  'stray release': 3,
  'speak of a stranger': 2,
  'stop in trouble': 2,
  'kill engine': 2,
  'kill engine, live-restore': 2,
  // What befalls servers and their ledger.
  'server dies': 5,
  'server leaves': 2,
  'server freezes': 4,
  'server sleeps': 2,
  'server clock steps': 2,
  'statements fail': 5,
  'store away': 2,
  'server at a wrong place': 2,
  'store clock steps': 2,
  'store clock steps back': 1,
  'stranger locks rows': 3,
  // What EC2 does.
  'lost reply': 5,
  'call hangs': 3,
  'call applies late': 6,
  'call refused': 3,
  throttle: 3,
  'assigns away': 1,
  'slow call': 3,
  'late reads': 5,
  'bad reads': 2,
  // What others do.
  'stranger assigns': 5,
  'stranger drops': 3,
  'stranger takes ours off': 4,
  'stranger crowds an eni': 1,
  'eni attached anew': 1,
  'eni deleted': 0.3,
  'instance terminated': 0.2,
  'eni detached': 3,
  'eni attached': 3,
  'eni moved': 4,
  'eni of a host deleted': 1,
  // What the operator does.
  recycle: 5,
  init: 2,
} as const;
export type OperationName = keyof typeof WEIGHTS;

export interface Op {
  readonly doing: OperationName;
  /** Waits for so many events after the one before, or for so many milliseconds. */
  readonly gap: { readonly steps: number } | { readonly ms: number };
  /** Three numbers below 2^16, by which it chooses what it is done to. */
  readonly dice: readonly [number, number, number];
}

/** How much more often an operation is drawn that a history is focused on. */
const FOCUSED = 10;

/** `focus`: what is to be done often. */
export function drawPlan(random: Random, focus: readonly OperationName[] = []): Op[] {
  const weights: Record<OperationName, number> = { ...WEIGHTS };
  for (const doing of focus) weights[doing] *= FOCUSED;
  const dice = () => random.below(2 ** 16);
  return Array.from(
    { length: random.between(8, 40) },
    (): Op => ({
      doing: random.weighted(weights),
      gap: drawGap(random),
      dice: [dice(), dice(), dice()],
    }),
  );
}

function drawGap(random: Random): Op['gap'] {
  if (random.chance(0.55)) return { steps: random.below(16) };
  const ms = random.weighted({ 10: 3, 1000: 3, 20000: 4, 100000: 2, 400000: 1 });
  return { ms: 1 + random.below(Number(ms)) };
}
