/** What Docker forgets, what its host does not show, and servers that are suspended with an answer in hand. */
import { WITNESS_AGE_MS } from '../../src/domain/witness.ts';
import { openIpam } from '../../src/ipam/ipam.ts';
import { Process } from '../kit/clock.ts';
import type { Container } from './engine.ts';
import {
  anyContainer,
  anyEngine,
  type Dice,
  isRunning,
  type Operation,
  of,
  on,
  runningPlaces,
  spread,
} from './operation.ts';
import { contextOf, type Server, witnessFor } from './server.ts';
import { giveUp } from './server-operations.ts';
import type { Place, World } from './world.ts';

const RUNS_ON_MS_MAX = 400_000;
const BLIND_MS_MAX = 600_000;
const HIDDEN_MS_MAX = 400_000;
/** A container that no view shows: shorter than the time between two readings that count. */
const NOWHERE_MS_MAX = WITNESS_AGE_MS / 2;
/** How long a server is suspended with a claim: longer than evidence of another server takes. */
const SUSPENDED_MIN_MS = 400_000;
const SUSPENDED_MS_MAX = 300_000;
/** How long its claim is waited for. */
const CLAIM_MS_MAX = 5_000;
const PAUSE_MS = 15_000;
/** How long a probe is under way while its address is given anew. */
const GIVEN_ANEW_MS = 3_000;

const isEmbedded = ({ layout }: World, ledger: number): boolean => layout.owners[ledger] != null;
/** Whether hosts of the ledger are read. */
const isRead = (world: World, ledger: number): boolean => world.layout.hasAgents || isEmbedded(world, ledger);
const readContainer = (world: World, dice: Dice): Container | undefined => {
  const container = anyContainer(world, dice);
  return container && isRead(world, container.network.port.ledger) ? container : undefined;
};
/** The one that runs longest of those that were always shown. */
const oldContainer = (world: World): Container | undefined =>
  world.engines
    .flatMap(({ containers, faults }) => containers.filter(one => !faults.hasHidden.has(one)))
    .filter(({ network, holding }) => holding !== null && isRead(world, network.port.ledger))
    .sort((a, b) => (a.holding?.since ?? 0) - (b.holding?.since ?? 0))[0];
const embeddedPlace = (world: World, [, which]: Dice): Place | undefined => {
  const all = runningPlaces(world).filter(({ network }) => isEmbedded(world, network.port.ledger));
  return all[which % Math.max(all.length, 1)];
};

export const WITNESS_OPERATIONS = {
  // Its end is released to nobody: the server was away at `rm -f`, or Docker's data was lost.
  'docker forgets': on(4, readContainer, (_world, container) => container.engine.forget(container)),
  'docker is wiped': on(2, anyEngine, ({ clock }, { faults, containers }) => {
    faults.wipes++;
    for (const one of containers)
      faults.hidden.set(one, { from: 'docker', until: clock.now + HIDDEN_MS_MAX });
  }),
  'host not read': on(2, anyEngine, ({ clock }, { faults }, [, , long]) => {
    faults.blindUntil = clock.now + spread(BLIND_MS_MAX, long);
  }),
  'a view leaves out': on(4, readContainer, ({ clock }, container, [, , die]) => {
    const from = die % 2 === 0 ? 'docker' : 'kernel';
    container.engine.faults.hidden.set(container, { from, until: clock.now + spread(HIDDEN_MS_MAX, die) });
  }),
  'shown nowhere': on(4, oldContainer, ({ clock }, container) => {
    const { hidden, hasHidden } = container.engine.faults;
    hasHidden.add(container);
    hidden.set(container, { from: 'all', until: clock.now + NOWHERE_MS_MAX });
  }),
  // Docker releases it, and the process runs on.
  'runs on': on(3, readContainer, ({ clock }, container, [, , long]) => {
    const { runningOn, hasRunOn } = container.engine.faults;
    const one = { ip: container.ip, eni: container.network.port.eni };
    runningOn.add(one);
    hasRunOn.add(one.ip);
    clock.effect(null, () => runningOn.delete(one), spread(RUNS_ON_MS_MAX, long));
    return container.engine.stop(container);
  }),
  // An operator releases it, and another container has it, before the server learns that nobody does.
  'leak given anew': on(3, anyEngine, (world, engine) => {
    engine.faults.beforeAnswer = async ips => {
      for (const leak of world.oracle.leaks) {
        const network = engine.networks.find(({ port }) => port.eni === leak.eni);
        if (network === undefined || !ips.includes(leak.ip)) continue;
        await giveUp(world, network.port, leak);
        if (isRunning(engine)) void engine.run(network, leak.ip); // it may have been killed meanwhile
      }
      await world.clock.wait(GIVEN_ANEW_MS);
    };
  }),
  // It tells another server then.
  'agent restarts': on(
    3,
    ({ agents }, [die]) => of(agents, die),
    (_world, agent) => agent.restart(),
  ),
  'host boasts': on(
    2,
    (world, dice) => (world.layout.hasAgents ? anyEngine(world, dice) : undefined),
    ({ clock }, { faults }, [, , long]) => {
      faults.boastingUntil = clock.now + spread(BLIND_MS_MAX, long);
    },
  ),
  // Another one on its ledger, as when a server is replaced, takes the readings meanwhile.
  'server is suspended with a claim': on(2, embeddedPlace, (world, place, dice) => {
    const server = world.pickServer(place.network.port.ledger);
    void place.engine.run(place.network, null);
    suspendAtClaim(world, server, SUSPENDED_MIN_MS + spread(SUSPENDED_MS_MAX, dice[2]), CLAIM_MS_MAX);
  }),
} satisfies Record<string, Operation>;

function suspendAtClaim(world: World, server: Server, forMs: number, leftMs: number): void {
  const { clock, oracle } = world;
  const { process } = server;
  if (process.state !== 'running' || leftMs <= 0) return;
  if ((oracle.unanswered.get(process)?.size ?? 0) === 0) {
    clock.effect(null, () => suspendAtClaim(world, server, forMs, leftMs - 1), 1);
    return;
  }
  oracle.note(`${process.id}: suspended with a claim`);
  clock.freeze(process);
  clock.effect(null, () => clock.thaw(process), forMs);
  startAnother(world, server, forMs);
}

/** A second server process on the ledger, which answers nobody. */
function startAnother(world: World, { ledger }: Server, forMs: number): void {
  const { clock, oracle } = world;
  const process = new Process(`another ${clock.steps}`);
  oracle.note(`${process.id} starts`);
  const { keeper } = openIpam(contextOf(world, ledger, process), {
    ...{ server: process.id, reconcileEveryMs: PAUSE_MS },
    pause: () => clock.waitIn(process, PAUSE_MS),
    witness: witnessFor(world, ledger, process),
  });
  void keeper.run();
  clock.effect(null, () => clock.kill(process), forMs);
}
