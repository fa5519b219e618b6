/** What must hold once faults have ended and the keepers have had time. */
import {
  type Allocation,
  isIntent,
  isRested,
  mayStillLeave,
  ofItsClaim,
  STATUSES,
} from '../../src/domain/allocation.ts';
import type { EniId } from '../../src/domain/ids.ts';
import { keyOf, type Port } from './layout.ts';
import type { Ledger } from './ledger.ts';
import type { Holding, Mirror, Oracle } from './oracle.ts';
import type { World } from './world.ts';

/** Notes what does not hold. It must hold in the end, however long that takes where EC2 allows few calls. */
export type Demand = (holds: boolean, rule: string, detail: () => string) => void;

export async function watchRest(world: World, demand: Demand): Promise<void> {
  for (const server of world.servers)
    demand(
      server.connections.size === 0,
      'every request ends within its bound',
      () => `${server.process.id} has ${server.connections.size} requests left at rest`,
    );
  for (const ledger of world.ledgers) await watchLedger(world, ledger, demand);
  watchHolders(world, demand);
}

async function watchLedger(world: World, ledger: Ledger, demand: Demand): Promise<void> {
  const { network } = world.ec2.vpc;
  const adopted = new Set((await ledger.base.enis()).filter(eni => eni.ours).map(eni => eni.subnet));
  for (const subnet of await ledger.base.subnets()) {
    if (!adopted.has(subnet.id)) continue; // no keeper works on it
    const { rows } = await ledger.base.withStatus(subnet.id, STATUSES);
    demand(
      rows.length === 16 && rows.every(row => same(row, ledger.mirror.rows.get(keyOf(row.subnet, row.ip)))),
      'every address is counted once',
      () => `${rows.length} rows in ${subnet.id}, or one that was changed outside the moves`,
    );
    for (const row of rows) {
      const carrier = network.carrier(subnet.id, row.ip);
      watchRow({ world, ledger, demand }, row, carrier);
    }
  }
}

/** Whether the row still has the holding that Docker forgot. */
const isLeakOf = ({ subnet, ip, claim, ledger }: Holding, { mirror }: Ledger, row: Allocation): boolean =>
  ledger === mirror.index &&
  subnet === row.subnet &&
  ip === row.ip &&
  claim === (mirror.claims.get(keyOf(subnet, ip)) ?? 0);

/** Whether the host that had it can show that it has not: another host does not speak for what it was given, nor does
 *  any for what a server of the release before gave, once the ENI was detached. */
const canBeShown = (oracle: Oracle, { eni, engine }: Holding, row: Allocation): boolean =>
  oracle.instanceOf(eni) === engine &&
  (!oracle.layout.hasAgents || ofItsClaim(row).instance === engine || !oracle.detachedAt.has(eni));

/** Whether the ENI was detached from an instance whose host is read: the ledger gives up what is on it then, and the host
 *  shows that containers have it still. */
const hasWandered = ({ layout, detachedAt }: Oracle, { index }: Mirror, eni: EniId): boolean =>
  (layout.hasAgents || layout.owners[index] !== null) && detachedAt.has(eni);

const same = (row: Allocation, mirrored: Allocation | undefined): boolean =>
  mirrored !== undefined && row.status === mirrored.status && row.generation === mirrored.generation;

export const isUsed = ({ engines }: World, { ip, iface }: Allocation): boolean =>
  engines.some(({ containers }) => containers.some(one => one.ip === ip && one.network.port.eni === iface));

interface Watched {
  readonly world: World;
  readonly ledger: Ledger;
  readonly demand: Demand;
}

function watchRow({ world, ledger, demand }: Watched, row: Allocation, carrier: EniId | null): void {
  const { oracle } = world;
  const { mirror } = ledger;
  const key = keyOf(row.subnet, row.ip);
  const told = () => `${key} is ${row.status} on ${row.iface} #${row.generation}; EC2 has it on ${carrier}`;
  const { status } = row;
  demand(!isIntent(row), 'at rest no intent is open', told);
  if (status === 'free') demand(carrier === null, 'at rest ledger and EC2 agree: free', told);
  if (status === 'ready') demand(carrier === row.iface, 'at rest ledger and EC2 agree: ready', told);
  if (status === 'allocated')
    demand(
      oracle.held.get(key)?.eni === row.iface || oracle.isLost(mirror, key),
      'at rest what is held has a holder, or was lost where nobody could see it',
      told,
    );
  if (status === 'allocated')
    demand(
      ![...oracle.leaks].some(one => isLeakOf(one, ledger, row) && canBeShown(oracle, one, row)),
      'at rest a leak has ended by evidence of its host',
      told,
    );
  if (row.iface !== null && (status === 'allocated' || status === 'ready'))
    demand(
      oracle.isHere(mirror.index, row.iface),
      'at rest nothing is held or kept ready on an ENI that has left',
      told,
    );
  if (status !== 'occupied') return;
  demand(carrier !== null, "at rest what is occupied is somebody's", told);
  if (carrier === null) return;
  demand(
    row.primary ||
      oracle.strangers.has(key) ||
      oracle.indistinguishable.has(`${carrier} ${row.ip}`) ||
      oracle.inherited.has(`${carrier} ${row.ip}`) ||
      oracle.servedBy(carrier) !== mirror ||
      hasWandered(oracle, mirror, carrier) ||
      isUsed(world, row) || // a container runs on with it, without holding it
      ledger.roomFor(carrier) <= 0, // what a process used without holding it comes back when there is room
    "at rest nothing of ours is taken for a stranger's",
    told,
  );
  demand(
    row.primary === (oracle.network.eni(carrier).primary === row.ip),
    'at rest a primary address is known as one',
    told,
  );
}

/** What containers have is on their ENIs, if EC2 allows it. */
function watchHolders({ oracle, ec2 }: World, demand: Demand): void {
  const { network } = ec2.vpc;
  for (const [key, holding] of oracle.held) {
    const { subnet, ip, eni, ledger } = holding;
    const row = oracle.rowIn(ledger, subnet, ip);
    const isInherited = oracle.inheritors.has(holding);
    demand(
      row?.status === (isInherited ? 'occupied' : 'allocated') && row.iface === eni,
      'at rest every container is held in the ledger',
      () => `${key} on ${eni} is ${row?.status} on ${row?.iface}`,
    );
    const there = oracle.eni(eni);
    if (!oracle.isHere(ledger, eni)) continue; // the ENI has left the engine's instance
    if (there === undefined || network.carrier(subnet, ip) !== null) continue; // it is there, or on another ENI now
    const hasRoom = 1 + there.secondaries.length < network.limitOf(there);
    demand(
      !hasRoom,
      'at rest what a container has is on its ENI, if EC2 allows it',
      () => `${key} on ${eni}`,
    );
  }
}

/** What there is for a request on the ENI; null: the ledger does not serve it now. */
export function offerOn({ oracle, ledgers, layout }: World, { eni, ledger, subnet, instance }: Port) {
  const { network } = oracle;
  const there = oracle.eni(eni);
  if (there === undefined || !oracle.isHere(ledger, eni)) return null;
  if (layout.hasAgents && oracle.instanceOf(eni) !== instance) return null; // the host may not use it
  const rows = [...(oracle.mirrors[ledger]?.rows.values() ?? [])].filter(row => row.subnet === subnet);
  return {
    /** By the store's clock. */
    now: ledgers[ledger]?.now() ?? 0,
    rows,
    here: rows.filter(row => row.iface === eni && !row.primary),
    free: rows.filter(row => row.status === 'free' && network.carrier(subnet, row.ip) === null),
    /** An address that is in the ledger but absent keeps its place on the ENI. */
    hasRoom: (known: readonly Allocation[]) =>
      (ledgers[ledger]?.roomFor(eni) ?? 0) > 0 &&
      1 + Math.max(there.secondaries.length, known.length) < network.limitOf(there),
  };
}

/** Whether a request for the ENI must succeed: there is a ready address on it, or a free one and room. */
export function mustServe(world: World, port: Port): boolean {
  const offer = offerOn(world, port);
  if (offer === null) return false;
  const { policy } = world.layout;
  const { now, rows, here, free, hasRoom } = offer;
  const mayServe = (row: Allocation) => !policy.strictReuse || isRested(row, port.eni, policy, now);
  // What a container runs on with, without holding it, is kept from others; on an ENI of a tenant it stays ready.
  if (here.some(row => row.status === 'ready' && mayServe(row) && !isUsed(world, row))) return true;
  if (!hasRoom(here)) return false;
  // The request reads a subnet that the ledger does not know yet.
  if (rows.length === 0) return world.oracle.network.available(port.subnet) > 0;
  return free.some(row => mayServe(row) && !mayStillLeave(row, port.eni, policy, now));
}
