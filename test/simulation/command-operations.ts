/** The commands `reconcile` and `adopt`, run as the command line runs them, in processes beside the servers; and a ledger
 *  that is rebuilt. */
import type { Command, Context, Io, Options, OptionValues, Output, Parts } from '../../src/cli/command.ts';
import { adopt } from '../../src/cli/commands/adopt.ts';
import { reconcile } from '../../src/cli/commands/reconcile.ts';
import type { Config } from '../../src/cli/settings/config.ts';
import { IpamError, isError } from '../../src/domain/error.ts';
import type { EniId } from '../../src/domain/ids.ts';
import type { Caller } from '../../src/simulator/model/caller.ts';
import { ACCOUNT_ID } from '../../src/simulator/model/records.ts';
import { Process } from '../kit/clock.ts';
import { LATE_READ_MS_MAX, type Port, STRANGER, WRONG_PLACES } from './layout.ts';
import type { Ledger } from './ledger.ts';
import {
  anyLedger,
  anyPort,
  type Dice,
  isRunning,
  type Operation,
  of,
  on,
  runningPlaces,
  spread,
} from './operation.ts';
import { contextOf } from './server.ts';
import { recycle } from './server-operations.ts';
import type { World } from './world.ts';

/** An operator who loses patience waits so long at most. */
const PATIENCE_MS_MAX = 30_000;

const NOWHERE: Output = { write: () => {}, isTerminal: false, screen: null, reader: () => 'reads' };
const io = (): Io => ({
  out: NOWHERE,
  err: NOWHERE,
  ask: async () => null,
  signal: new AbortController().signal,
  crashed: new Promise(() => {}),
});

interface Order<O extends Options> {
  readonly command: Command<O>;
  readonly args: readonly string[];
  readonly options: OptionValues<O>;
  readonly ledger: Ledger;
  /** Whose client it is, if not one of the ledger's account and Region. */
  readonly caller: Caller | undefined;
  /** It must change neither the ledger nor EC2. */
  readonly mayChange: boolean;
  /** The operator ends it after so long; null: he does not. */
  readonly killedAfterMs: number | null;
}

interface Ended {
  readonly status: number;
  readonly error: IpamError | null;
}

/** Runs the command. Never resolves if it is killed. */
async function carryOut<O extends Options>(world: World, order: Order<O>): Promise<Ended> {
  const { clock, oracle } = world;
  const { command, args, options, ledger, caller, killedAfterMs } = order;
  const process = new Process(`${command.name} ${clock.steps}`);
  const whose = caller === undefined ? '' : ` as ${JSON.stringify(caller)}`;
  oracle.note(`${process.id}: ${args.join(' ')} ${JSON.stringify(options)}${whose}`);
  if (caller !== undefined) oracle.misplaced.add(process);
  if (!order.mayChange) oracle.harmless.add(process);
  if (killedAfterMs !== null) clock.effect(null, () => clock.kill(process), killedAfterMs);
  const context = contextOf(world, ledger, process, caller);
  const given: Context<O> = {
    ...{ args, options, io: io(), log: context.log },
    config: {} as Config, // only `assemble` reads it
    assemble: async () => ({ context, store: context.store, own: async () => {} }) as Partial<Parts> as Parts,
  };
  const ended = await command.run(given).then(status => ({ status, error: null }), failed);
  oracle.note(
    `${process.id} ends with ${ended.status}${ended.error === null ? '' : `: ${ended.error.line}`}`,
  );
  return ended;

  /** As the command line does. */
  function failed(error: unknown): Ended {
    if (!(error instanceof IpamError) || error.code === 'internal') oracle.crash(error);
    const ours = error instanceof IpamError ? error : null;
    return { status: isError(error, 'bad-request') ? 2 : 1, error: ours };
  }
}

/** The ENIs of the ledger. */
const enisOf = async ({ base }: Ledger): Promise<EniId[]> =>
  (await base.enis()).filter(eni => eni.ours).map(eni => eni.id);

const patience = (die: number): number | null => (die % 4 === 0 ? spread(PATIENCE_MS_MAX, die) : null);

/** A client of another account or Region is refused by a ledger that has ENIs; one of its own is not. */
async function orderReconcile(world: World, ledger: Ledger, how: number, where: number): Promise<void> {
  const { oracle } = world;
  const known = await enisOf(ledger);
  const caller = how % 3 === 0 ? of(WRONG_PLACES, where) : undefined;
  const dryRun = how % 4 === 0;
  const isRefused = caller !== undefined && known.length > 0;
  const { status, error } = await carryOut(world, {
    ...{ command: reconcile, args: [], options: { 'dry-run': dryRun, json: false }, ledger, caller },
    mayChange: !dryRun && !isRefused,
    killedAfterMs: patience(where),
  });
  if (isRefused)
    oracle.demand(
      status === 1,
      'a command of another account or Region exits with 1',
      () => `reconcile of ${JSON.stringify(caller)} ended with ${status}`,
    );
  if (caller === undefined)
    oracle.demand(
      !isError(error, 'conflict') || !known.some(eni => oracle.eni(eni) !== undefined),
      'a command of the account and Region of the ledger is not refused',
      () => `reconcile: ${error?.line}`,
    );
}

/** An ENI of the account becomes the ledger's by the order of an operator. An embedded ledger takes only those of its
 *  instance. No ledger takes one of another account. */
async function orderAdopt(world: World, ledger: Ledger, how: number, which: number): Promise<void> {
  const { oracle, layout, clock, counts } = world;
  const { index } = ledger.mirror;
  const owner = layout.owners[index] ?? null;
  const hasEnis = (await enisOf(ledger)).length > 0;
  const caller = how % 4 === 0 ? of(WRONG_PLACES, which >> 4) : undefined;
  // Nobody belongs to a wrong place while the ledger has no ENI that could show it.
  if (caller !== undefined && !hasEnis) return;
  const port = of(
    layout.ports.filter(one => owner !== null || one.ledger === index),
    which >> 2,
  );
  const isStrangers = which % 4 === 0;
  const id = isStrangers ? STRANGER : port?.eni;
  if (id === undefined) return;
  const isForeign = isStrangers && oracle.eni(id)?.owner !== ACCOUNT_ID;
  // A ledger without ENIs belongs to the account of the first. Who has spoken of the stranger's ENI may speak again.
  if (isStrangers && (!hasEnis || counts.has('speak of a stranger'))) return;
  const dryRun = how % 5 === 0;
  const isRefused = caller !== undefined || isForeign || (isStrangers && owner !== null);
  if (!isRefused && !dryRun) oracle.pooled.add(id);
  const startedAt = clock.now;
  const wasHere = () => owner === null || oracle.mayBelieve(id, owner);
  const mayBeHere = wasHere();
  const { status } = await carryOut(world, {
    ...{ command: adopt, args: [id], options: { 'dry-run': dryRun, json: false }, ledger, caller },
    mayChange: !dryRun && !isRefused,
    killedAfterMs: patience(how),
  });
  const leftAt = oracle.leftInstance.get(`${id} ${owner}`) ?? Number.NEGATIVE_INFINITY;
  oracle.demand(
    status !== 0 || dryRun || (!isRefused && (mayBeHere || wasHere() || leftAt >= startedAt)),
    'an ENI of another account or instance is not adopted, nor any by another account or Region',
    () => `${id} by ledger ${index}${caller === undefined ? '' : ` as ${JSON.stringify(caller)}`}`,
  );
}

/** When no call of the servers before can be applied any more. */
const CALLS_OVER_MS = 930_000;
/** How long the servers run before the operator adopts the ENIs, and what was there is used after that. */
const ADOPTED_AFTER_MS_MAX = 120_000;
const USED_MS = 120_000;
const ADOPT_AGAIN_MS = 20_000;
const ADOPTS_MAX = 100;

/** A central ledger is lost with its servers. Later an empty one takes its place, and an operator adopts its ENIs, with what
 *  containers have there. Not with agents, whose readings would show what no ledger knows. */
async function rebuild(world: World, ledger: Ledger, [, after, ends]: Dice): Promise<void> {
  const { clock, oracle, servers, engines, layout } = world;
  const { mirror } = ledger;
  oracle.note(`ledger ${mirror.index} is lost`);
  ledger.isLost = true;
  const ours = servers.filter(server => server.ledger === ledger);
  for (const server of ours) if (server.process.state !== 'dead') server.die();
  await clock.wait(CALLS_OVER_MS);
  const ports = layout.ports.filter(({ ledger: index }) => index === mirror.index);
  const lost = engines
    .flatMap(({ containers }) => containers)
    .filter(
      ({ network: { port }, ip }) => ports.includes(port) && !oracle.secondaries(port.eni).includes(ip),
    );
  for (const container of lost) container.engine.forget(container);
  const enis = ports.map(({ eni }) => eni).filter(eni => oracle.pooled.has(eni));
  oracle.note(`ledger ${mirror.index} begins anew`);
  ledger.beginAnew();
  oracle.begunAnew(mirror);
  for (const server of ours) server.restart();
  await clock.wait(spread(ADOPTED_AFTER_MS_MAX, after));
  for (const eni of enis) await adoptInTheEnd(world, ledger, eni);
  const inherited = engines
    .flatMap(({ containers }) => containers)
    .filter(({ holding }) => holding !== null && oracle.inheritors.has(holding));
  for (const [i, container] of inherited.entries()) {
    const how = (ends >> i) % 4;
    if (!isRunning(container.engine) || how === 0) continue;
    void (how === 1 ? container.engine.stop(container) : container.engine.restart(container, how === 2));
  }
}

async function adoptInTheEnd(world: World, ledger: Ledger, eni: EniId): Promise<void> {
  for (let tries = 0; tries < ADOPTS_MAX && world.oracle.eni(eni) !== undefined; tries++) {
    world.oracle.pooled.add(eni);
    const { status } = await carryOut(world, {
      ...{ command: adopt, args: [eni], options: { 'dry-run': false, json: false }, ledger },
      ...{ caller: undefined, mayChange: true, killedAfterMs: null },
    });
    if (status === 0) return;
    await world.clock.wait(ADOPT_AGAIN_MS);
  }
}

const RECYCLED_MAX = 8;
/** How long after addresses have changed their ENIs they are read, and how long reads are late then. */
const READ_AFTER_MS_MAX = 20_000;
const READS_LATE_MS = 60_000;
/** Containers that start on each ENI, and how long they are waited for. */
const STARTS_MAX = 5;
const STAYS_MS_MAX = 1_000;

/** What is idle leaves its ENI, and others of the subnet get it for clients that hang up; then a reconcile reads how it was
 *  before. */
async function reconcileLate(world: World, port: Port, [, starts, how]: Dice): Promise<void> {
  const { clock, ec2, ledgers } = world;
  const ledger = ledgers[port.ledger];
  if (ledger === undefined) return;
  await recycle(world, port, 0, RECYCLED_MAX);
  const places = runningPlaces(world).filter(({ network }) => network.port.subnet === port.subnet);
  for (const { engine, network } of places) void engine.crowd(network, 1 + (starts % STARTS_MAX));
  // What nobody waits for any more is ready again.
  const hangUp = () => {
    for (const { engine } of places) for (const connection of engine.connections) connection.hangUp();
  };
  clock.effect(null, hangUp, spread(STAYS_MS_MAX, starts));
  await clock.wait(spread(READ_AFTER_MS_MAX, how));
  const end = ec2.addFaultFor({ kind: 'readLag', ms: LATE_READ_MS_MAX, action: 'DescribeNetworkInterfaces' });
  clock.effect(null, end, READS_LATE_MS);
  await orderReconcile(world, ledger, 1, 1);
}

export const COMMAND_OPERATIONS = {
  reconcile: on(4, anyLedger, (world, ledger, [, how, where]) => orderReconcile(world, ledger, how, where)),
  'reconcile reads late': on(1, anyPort, (world, port, dice) => reconcileLate(world, port, dice)),
  'ledger rebuilt': on(
    0.7,
    (world, dice) => {
      const ledger = world.layout.hasAgents ? undefined : anyLedger(world, dice);
      const isCentral = ledger !== undefined && world.layout.owners[ledger.mirror.index] === null;
      return isCentral && !ledger.isLost && world.restingSince === null ? ledger : undefined;
    },
    (world, ledger, dice) => {
      const allMs = CALLS_OVER_MS + ADOPTED_AFTER_MS_MAX + USED_MS;
      world.faultsUntil = Math.max(world.faultsUntil, world.clock.now + allMs);
      void rebuild(world, ledger, dice);
    },
  ),
  adopt: on(3, anyLedger, (world, ledger, [, how, which]) => orderAdopt(world, ledger, how, which)),
} satisfies Record<string, Operation>;
