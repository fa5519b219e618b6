/** An operation of a history, and how its target is chosen. */
import type { Connection } from './connection.ts';
import type { Container, Engine } from './engine.ts';
import type { Port } from './layout.ts';
import type { Ledger } from './ledger.ts';
import type { Server } from './server.ts';
import type { Place, World } from './world.ts';

/** Three numbers below 2^16. */
export type Dice = readonly [number, number, number];
export interface Operation {
  /** How often it is drawn, relative to the others. */
  readonly weight: number;
  /** Returns false when there was no target. */
  readonly act: (world: World, dice: Dice) => boolean;
}

/** One of the items; undefined when there is none. */
export const of = <T>(items: readonly T[], die: number): T | undefined =>
  items[die % Math.max(items.length, 1)];
/** From 1 to `most`, small ones as often as large ones. */
export const spread = (most: number, die: number): number => Math.ceil(most ** ((die + 1) / 2 ** 16));

/** An operation on the target that `find` returns when it is carried out. */
export const on = <T>(
  weight: number,
  find: (world: World, dice: Dice) => T | undefined,
  act: (world: World, found: T, dice: Dice) => unknown,
): Operation => ({
  weight,
  act(world, dice) {
    const found = find(world, dice);
    if (found !== undefined) void act(world, found, dice);
    return found !== undefined;
  },
});

export const isRunning = ({ process }: Engine | Server): boolean => process.state === 'running';

export const runningPlaces = (world: World): Place[] =>
  world.places().filter(({ engine }) => isRunning(engine));
export const anyEngine = ({ engines }: World, [die]: Dice): Engine | undefined =>
  of(engines.filter(isRunning), die);
export function anyPlace(world: World, dice: Dice): Place | undefined {
  const engine = anyEngine(world, dice);
  const network = engine && of(engine.networks, dice[1]);
  return engine && network && { engine, network };
}
export const anyContainer = (world: World, dice: Dice): Container | undefined =>
  of(anyEngine(world, dice)?.containers ?? [], dice[1]);
export const anyConnection = ({ engines }: World, [die]: Dice): Connection | undefined =>
  of(
    engines.flatMap(engine => [...engine.connections]),
    die,
  );
export const anyServer = ({ servers }: World, [die]: Dice): Server | undefined =>
  of(servers.filter(isRunning), die);
export const anyLedger = ({ ledgers }: World, [die]: Dice): Ledger | undefined => of(ledgers, die);
export const anyPort = ({ layout }: World, [die]: Dice): Port | undefined => of(layout.ports, die);
/** An ENI of a host with an embedded ledger. */
export function embeddedPort(world: World, dice: Dice): Port | undefined {
  const port = anyPort(world, dice);
  return port !== undefined && world.layout.owners[port.ledger] !== null ? port : undefined;
}
/** An ENI from which others may take our addresses. None with two ledgers: an address that one of them lost in
 *  this way may be taken by the other in good faith. So it is where a ledger was rebuilt: it does not know what it had. */
export const robbedPort = (world: World, dice: Dice): Port | undefined =>
  world.ledgers.length === 1 && world.oracle.inherited.size === 0 ? anyPort(world, dice) : undefined;
