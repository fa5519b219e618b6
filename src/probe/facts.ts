/** What a probe must know of the ENI and its subnet before it changes anything, and the ENIs that it refuses. */
import type { Ec2Client } from '../cloud/cloud.ts';
import { withoutIpv4 } from '../cloud/refusals.ts';
import { CARRIED_KINDS, type ShownEni, type VerbatimEc2 } from '../cloud/verbatim.ts';
import {
  type Cidr,
  contains,
  formatCidr,
  fromNumber,
  type Ipv4,
  isReserved,
  numberOf,
  parseIpv4,
  sizeOf,
} from '../domain/address.ts';
import { IpamError } from '../domain/error.ts';
import { type EniId, type InstanceId, parseEniId, parseSubnetId, type SubnetId } from '../domain/ids.ts';
import type { Meter } from './meter.ts';

export interface Facts {
  readonly eni: EniId;
  readonly primary: Ipv4;
  readonly subnet: SubnetId;
  readonly cidr: Cidr;
  /** IPv4 addresses that the ENI may have, its primary included; null: EC2 does not say. */
  readonly limit: number | null;
  readonly instanceType: string | null;
  /** Addresses that no ENI has: as many as the steps need, or all that there are. */
  readonly free: readonly Ipv4[];
  /** The primary of another ENI of the subnet; null: there is none. */
  readonly neighbour: { readonly eni: EniId; readonly primary: Ipv4 } | null;
  /** A free /28; null: none is wanted, or there is none. */
  readonly prefix: string | null;
  /** A /80 of the subnet's IPv6 CIDR; null: none is wanted, or the subnet has no IPv6. */
  readonly ipv6Prefix: string | null;
  /** An id that EC2 has hardly given to anyone. */
  readonly nobody: EniId;
}

export interface Sources {
  readonly reads: Ec2Client;
  readonly verbatim: VerbatimEc2;
  /** 0 to 1, exclusive. */
  readonly random: () => number;
}

/** Beside those that go over the limit of the ENI. */
const FREE_MIN = 2;
/** For an ENI whose limit is not known. The largest limit of an instance type is 50. */
const FREE_MAX = 64;
const PAGES_MAX = 3;
const PREFIX_SIZE = 16;

/** Throws conflict for an ENI that is in use, and what EC2 answers. */
export async function gather(
  id: EniId,
  withPrefixes: boolean,
  { reads: unpaced, verbatim, random }: Sources,
  meter: Meter,
): Promise<Facts> {
  const reads = unpaced.sendingBy((_action, send) => meter.read(send));
  const shown = await lookAt(id, verbatim, meter);
  checkUnused(id, shown);
  if (shown.primary === null) throw withoutIpv4(id);
  const subnet = parseSubnetId(shown.subnet);
  const { cidr } = await reads.subnet(subnet);
  const { used, neighbour } = await survey(reads, subnet, id);
  // Without the right to read them an address may be in one. Then EC2 refuses it, which is shown.
  const reservations = await reads.reservations(subnet).catch(error => {
    if (error instanceof IpamError) return [];
    throw error;
  });
  const kept = [...used.blocks, ...reservations.map(one => one.cidr)];
  const isFree = (ip: Ipv4): boolean =>
    !used.ips.has(ip) && !isReserved(cidr, ip) && !kept.some(block => contains(block, ip));
  const type = shown.instance === null ? null : await reads.instanceType(shown.instance as InstanceId);
  const limit = type === null ? null : await reads.addressLimit(type);
  const prefix = withPrefixes ? freePrefix(cidr, isFree) : null;
  const isSingle = (ip: Ipv4): boolean => isFree(ip) && (prefix === null || !contains(prefix, ip));
  const free = chosen(cidr, isSingle, Math.min(FREE_MIN + (limit ?? 0), FREE_MAX), random);
  if (free.length < FREE_MIN)
    throw new IpamError('conflict', `${subnet} has fewer than ${FREE_MIN} free addresses`, {
      hint: 'use an ENI of another subnet',
    });
  return {
    eni: id,
    primary: parseIpv4(shown.primary),
    subnet,
    cidr,
    limit,
    instanceType: type,
    free,
    neighbour,
    prefix: prefix && formatCidr(prefix),
    ipv6Prefix: withPrefixes ? await ipv6PrefixOf(subnet, verbatim, meter, random) : null,
    nobody: parseEniId(`eni-0${hex(random, 16)}`),
  };
}

/** Throws EC2's refusal as ours. */
export async function lookAt(id: EniId, verbatim: VerbatimEc2, meter: Meter): Promise<ShownEni> {
  const answer = await meter.read(() => verbatim.eni(id));
  if (answer.code === null) return answer.value;
  throw new IpamError('ec2-not-found', `EC2 does not show ${id}: ${answer.text} (${answer.code})`, {
    hint: 'check the id, the Region, the account and its rights',
  });
}

function checkUnused(id: EniId, { requesterManaged, carried }: ShownEni): void {
  const refuse = (why: string): never => {
    throw new IpamError('conflict', `${id} ${why}: nothing was changed`, {
      hint: 'make an ENI for the probe alone, and attach it to an instance',
    });
  };
  if (requesterManaged) refuse('is managed by a service of AWS');
  for (const kind of CARRIED_KINDS)
    if (carried[kind].length > 0)
      refuse(`has ${kind === 'addresses' ? 'secondary addresses' : kind}, such as ${carried[kind][0]}`);
}

async function survey(reads: Ec2Client, subnet: SubnetId, own: EniId) {
  const ips = new Set<Ipv4>();
  const blocks: Cidr[] = [];
  let neighbour: Facts['neighbour'] = null;
  let pages = 0;
  for await (const page of reads.enis(subnet)) {
    if (++pages > PAGES_MAX)
      throw new IpamError('conflict', `${subnet} has too many ENIs for a probe`, {
        hint: 'use a smaller subnet',
      });
    for (const { id, primary, secondaries, prefixes } of page) {
      for (const ip of [primary, ...secondaries]) ips.add(ip);
      blocks.push(...prefixes);
      if (id !== own) neighbour ??= { eni: id, primary };
    }
  }
  return { used: { ips, blocks }, neighbour };
}

/** From a random one on, so that two probes of a subnet hardly choose the same. */
function chosen(cidr: Cidr, isFree: (ip: Ipv4) => boolean, count: number, random: () => number): Ipv4[] {
  const size = sizeOf(cidr);
  const start = Math.floor(random() * size);
  const found: Ipv4[] = [];
  for (let step = 0; step < size && found.length < count; step++) {
    const ip = fromNumber(cidr.first + ((start + step) % size));
    if (isFree(ip)) found.push(ip);
  }
  return found;
}

function freePrefix(cidr: Cidr, isFree: (ip: Ipv4) => boolean): Cidr | null {
  for (let first = cidr.first; first + PREFIX_SIZE - 1 <= cidr.last; first += PREFIX_SIZE) {
    const block: Cidr = { first, last: first + PREFIX_SIZE - 1, maskLength: 28 };
    const isWhole = Array.from({ length: PREFIX_SIZE }, (_, i) => fromNumber(first + i)).every(isFree);
    if (isWhole) return block;
  }
  return null;
}

async function ipv6PrefixOf(
  subnet: SubnetId,
  verbatim: VerbatimEc2,
  meter: Meter,
  random: () => number,
): Promise<string | null> {
  const answer = await meter.read(() => verbatim.ipv6Cidr(subnet));
  const net = answer.code === null ? /^(.*)::\/64$/.exec(answer.value ?? '')?.[1] : undefined;
  if (net === undefined) return null;
  const groups = [...net.split(':'), '0', '0', '0'].slice(0, 4);
  // Far from the low ones, which EC2 gives out by itself. A group has no leading zero.
  return `${groups.join(':')}:f${hex(random, 3)}::/80`;
}

const hex = (random: () => number, length: number): string =>
  Array.from({ length }, () => Math.floor(random() * 16).toString(16)).join('');

/** An address behind the subnet, or before one at the end of all addresses. */
export const outsideOf = (cidr: Cidr): Ipv4 =>
  fromNumber(cidr.last === numberOf('255.255.255.255' as Ipv4) ? cidr.first - 1 : cidr.last + 1);
