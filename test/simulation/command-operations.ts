/** The commands `reconcile` and `adopt`, run as the command line runs them, in processes beside the servers. */
import type { Command, Context, Io, Options, OptionValues, Output, Parts } from '../../src/cli/command.ts';
import { adopt } from '../../src/cli/commands/adopt.ts';
import { reconcile } from '../../src/cli/commands/reconcile.ts';
import type { Config } from '../../src/cli/settings/config.ts';
import { IpamError, isError } from '../../src/domain/error.ts';
import type { EniId } from '../../src/domain/ids.ts';
import type { Caller } from '../../src/simulator/model/caller.ts';
import { ACCOUNT_ID } from '../../src/simulator/model/records.ts';
import { Process } from '../kit/clock.ts';
import { OTHER_ACCOUNT, STRANGER } from './layout.ts';
import type { Ledger } from './ledger.ts';
import { anyLedger, type Operation, of, on, spread } from './operation.ts';
import { contextOf } from './server.ts';
import type { World } from './world.ts';

/** Clients that do not belong to the ledgers. */
export const WRONG_PLACES: readonly Caller[] = [
  { account: ACCOUNT_ID, region: 'us-east-1' },
  { account: OTHER_ACCOUNT, region: null },
];

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

export const COMMAND_OPERATIONS = {
  reconcile: on(4, anyLedger, (world, ledger, [, how, where]) => orderReconcile(world, ledger, how, where)),
  adopt: on(3, anyLedger, (world, ledger, [, how, which]) => orderAdopt(world, ledger, how, which)),
} satisfies Record<string, Operation>;
