/** Reads a subnet and its ENIs from EC2 and fills the ledger. Done again it refreshes, and never downgrades a holder. */
import type { CloudEni } from '../../cloud/cloud.ts';
import {
  type Cidr,
  contains,
  covers,
  formatCidr,
  fromNumber,
  type Ipv4,
  isReserved,
  sizeOf,
} from '../../domain/address.ts';
import type { Sighting } from '../../domain/drift.ts';
import { IpamError } from '../../domain/error.ts';
import type { SubnetId } from '../../domain/ids.ts';
import type { LedgerSubnet, NewAllocation } from '../../store/store.ts';
import type { Machine } from '../context.ts';
import { noteObserved, refreshed, sightingsOn } from './observe.ts';

/** Rows written at a time, so that neither memory nor a statement grows with the subnet, and how many times at once. */
const ADD_CHUNK = 4096;
const ADD_LANES = 2;
const READ_CHUNK = 500;

export interface Survey {
  readonly subnet: LedgerSubnet;
  readonly enis: number;
  /** Rows that were not in the ledger before. */
  readonly added: number;
  readonly free: number;
  /** EC2's count of addresses that nobody has; fewer than our `free` means use out of our sight. */
  readonly available: number;
}
export type Progress = (what: string, done: number, total: number | null) => void;

export async function survey(
  machine: Machine,
  id: SubnetId,
  range: Cidr | null = null,
  progress: Progress = () => {},
): Promise<Survey> {
  const { store, cloud } = machine;
  const observed = await cloud.subnet(id);
  const whole = observed.cidr;
  if (range !== null && !covers(whole, range))
    throw new IpamError(
      'bad-request',
      `${formatCidr(range)} is not inside ${id}, which is ${formatCidr(whole)}`,
    );
  const held = await prefixReservations(machine, id);
  const { now: readAt } = await store.intents(0, 0);
  const found = new Map<Ipv4, Sighting>();
  const enis: CloudEni[] = [];
  for await (const page of cloud.enis(id)) {
    for (const eni of page) {
      enis.push(eni);
      for (const [ip, at] of sightingsOn(eni)) found.set(ip, at);
    }
    progress('network interfaces read', enis.length, null);
  }
  const row = (ip: Ipv4): NewAllocation => {
    const at = found.get(ip);
    if (isReserved(whole, ip)) return { subnet: id, ip, status: 'reserved', iface: null, primary: false };
    if (at !== undefined) return { subnet: id, ip, status: 'occupied', iface: at.eni, primary: at.primary };
    const status = held.some(cidr => contains(cidr, ip)) ? 'reserved' : 'free';
    return { subnet: id, ip, status, iface: null, primary: false };
  };

  const subnet: LedgerSubnet = { id, vpc: observed.vpc, cidr: whole };
  const scope = range ?? whole;
  let added = 0;
  let written = 0;
  const chunks = chunksOf(scope);
  const lane = async (): Promise<void> => {
    for (const chunk of chunks) {
      const fresh = await store.add(chunk.map(row));
      added += fresh;
      written += chunk.length;
      progress('addresses written', written, sizeOf(scope));
    }
  };
  await Promise.all(Array.from({ length: ADD_LANES }, lane));
  await store.saveSubnet(subnet);
  await noteObserved(machine, enis);
  const known = new Map((await store.enis()).map(eni => [eni.id, eni]));
  await store.saveEnis(
    enis.map(eni => {
      const before = known.get(eni.id) ?? null;
      return refreshed(before, eni, before?.addressLimit ?? null, readAt);
    }),
  );
  await reserveHeld(machine, id, scope, held);
  const free = (await store.tally()).find(one => one.subnet === id && one.status === 'free')?.count ?? 0;
  return { subnet, enis: enis.length, added, free, available: observed.available };
}

function* chunksOf(scope: Cidr): Generator<Ipv4[]> {
  for (let from = scope.first; from <= scope.last; from += ADD_CHUNK) {
    const length = Math.min(ADD_CHUNK, scope.last - from + 1);
    yield Array.from({ length }, (_, i) => fromNumber(from + i));
  }
}

/** The CIDRs from which EC2 gives prefixes only. Without the right to read them the survey goes on: EC2 refuses
 *  their addresses one by one. */
async function prefixReservations({ cloud, log }: Machine, subnet: SubnetId): Promise<Cidr[]> {
  try {
    const reservations = await cloud.reservations(subnet);
    return reservations.filter(one => one.type === 'prefix').map(one => one.cidr);
  } catch (error) {
    if (!(error instanceof IpamError)) throw error;
    log('warn', `the CIDR reservations of ${subnet} cannot be read; taken as none`, { error: error.line });
    return [];
  }
}

/** Addresses that were free before a prefix reservation was made are not ours to give from now on. */
async function reserveHeld(
  machine: Machine,
  subnet: SubnetId,
  scope: Cidr,
  held: readonly Cidr[],
): Promise<void> {
  for (const cidr of held) {
    const first = Math.max(cidr.first, scope.first);
    const last = Math.min(cidr.last, scope.last);
    for (let from = first; from <= last; from += READ_CHUNK) {
      const length = Math.min(READ_CHUNK, last - from + 1);
      const ips = Array.from({ length }, (_, i) => fromNumber(from + i));
      const { rows } = await machine.store.get(subnet, ips);
      const free = rows.filter(row => row.status === 'free');
      await machine.store.move(free.map(row => ({ row, move: 'reserve' })));
    }
  }
}
