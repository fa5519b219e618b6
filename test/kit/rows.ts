/** Rows of the ledger as tests need them: one that is plain, with what a test says of it. */
import { fromNumber, type Ipv4, numberOf } from '../../src/domain/address.ts';
import type { Allocation } from '../../src/domain/allocation.ts';
import type { EniId, SubnetId } from '../../src/domain/ids.ts';

export const SUBNET = 'subnet-0a' as SubnetId;
export const OTHER_SUBNET = 'subnet-0b' as SubnetId;
export const ENI = 'eni-0a' as EniId;
export const OTHER_ENI = 'eni-0b' as EniId;

const PLAIN: Allocation = {
  subnet: SUBNET,
  ip: '10.0.1.6' as Ipv4,
  status: 'free',
  iface: ENI,
  generation: 7,
  primary: false,
  movedAt: 0,
  restedSince: null,
  restedFrom: null,
  leftIface: null,
  leftAt: null,
  leftUnsure: false,
  instance: null,
  requestId: null,
  releaseId: null,
  claimedAt: null,
  repeatedAt: null,
  reservedFor: null,
  placedAt: null,
  missingSince: null,
  repairUnsureAt: null,
  absentSince: null,
  refusedAt: null,
  holder: null,
  containerId: null,
  containerSince: null,
  token: null,
};

export const rowWith = (patch: Partial<Allocation> = {}): Allocation => ({ ...PLAIN, ...patch });

/** So many addresses behind 10.0.1.0. */
export const ip = (last: number): Ipv4 => fromNumber(numberOf('10.0.1.0' as Ipv4) + last);
export const ipsOf = (rows: readonly { readonly ip: Ipv4 }[]): Ipv4[] => rows.map(row => row.ip);

/** `count` numbers from `first` on. */
export const range = (count: number, first = 0): number[] =>
  Array.from({ length: count }, (_, i) => first + i);
