/** Ids of EC2 resources, and the PoolID of Docker's IPAM protocol. */
import { type Cidr, covers, formatCidr, parseCidr } from './address.ts';
import { IpamError } from './error.ts';
import { shown } from './text.ts';

export type EniId = string & { readonly brand: 'EniId' };
export type SubnetId = string & { readonly brand: 'SubnetId' };
export type InstanceId = string & { readonly brand: 'InstanceId' };

// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/resource-ids.html: 8 or 17 characters in hexadecimal.
// Longer ids are accepted up to the length of the ledger's columns.
const idPattern = (prefix: string): RegExp => new RegExp(`^${prefix}-[0-9a-f]{1,24}$`);
const PATTERNS = { eni: idPattern('eni'), subnet: idPattern('subnet'), i: idPattern('i') };

function parseId(kind: keyof typeof PATTERNS, text: string, what: string): string {
  if (!PATTERNS[kind].test(text))
    throw new IpamError('bad-request', `${what} "${shown(text)}" is not an id of the form ${kind}-0123abcd`);
  return text;
}
export const parseEniId = (text: string, what = 'eni-id'): EniId => parseId('eni', text, what) as EniId;
export const parseSubnetId = (text: string, what = 'subnet'): SubnetId =>
  parseId('subnet', text, what) as SubnetId;
export const parseInstanceId = (text: string, what = 'instance-id'): InstanceId =>
  parseId('i', text, what) as InstanceId;

/** A Docker pool: the subnet of one ENI. Addresses that Docker does not name are chosen from `range`. */
export interface Pool {
  readonly eni: EniId;
  readonly range: Cidr | null;
}

/** The PoolID: `eni-0abc` (also of the program before this one) or `eni-0abc;range=10.0.1.128/25`. Docker keeps it for
 *  the life of the network, so it depends on the request only. */
export const formatPoolId = ({ eni, range }: Pool): string =>
  range === null ? eni : `${eni};range=${formatCidr(range)}`;

/** Parses a PoolID. Throws bad-request. */
export function parsePoolId(text: string): Pool {
  const [eni = '', option, ...more] = text.split(';');
  if (option === 'v6')
    throw new IpamError('bad-request', `pool "${shown(text)}" is IPv6, which is not served`);
  const range = option?.startsWith('range=') && more.length === 0 ? option.slice('range='.length) : undefined;
  if (option !== undefined && range === undefined)
    throw new IpamError('bad-request', `PoolID "${shown(text)}" is not one of this driver`);
  return {
    eni: parseEniId(eni, 'PoolID'),
    range: range === undefined ? null : parseCidr(range, 'PoolID range'),
  };
}

/** The pool of a request. Throws bad-request when the range is not inside the subnet. */
export function poolFor(eni: EniId, subnet: Cidr, range: Cidr | null): Pool {
  if (range !== null && !covers(subnet, range))
    throw new IpamError(
      'bad-request',
      `--ip-range ${formatCidr(range)} is not inside ${formatCidr(subnet)}`,
      {
        hint: "give a range inside the ENI's subnet",
      },
    );
  return { eni, range };
}
