/** EC2's answers word for word, for what tries out how EC2 behaves. The program itself asks by cloud.ts. */
import type { EniId, SubnetId } from '../domain/ids.ts';

/** EC2's answer, or the code and text of its refusal. */
export type Answer<T> =
  | { readonly code: null; readonly value: T }
  | { readonly code: string; readonly text: string };

/** What an ENI is and carries, in EC2's words. */
export interface ShownEni {
  readonly subnet: string;
  /** Null: it has no IPv4 address. */
  readonly primary: string | null;
  readonly instance: string | null;
  /** A service of AWS made it, and changes it. */
  readonly requesterManaged: boolean;
  /** What can be taken off it, by kind. */
  readonly carried: Readonly<Record<CarriedKind, readonly string[]>>;
}

export const CARRIED_KINDS = ['addresses', 'prefixes', 'ipv6-prefixes'] as const;
export type CarriedKind = (typeof CARRIED_KINDS)[number];

/** A change of one ENI. Nothing in it is checked before it is sent. */
export interface Change {
  readonly verb: 'assign' | 'unassign';
  readonly kind: CarriedKind;
  readonly eni: EniId;
  readonly names: readonly string[];
}

/** Each call is sent at once and once. Throws IpamErrors: `ec2-unreachable` when it was not sent, `ec2-unknown` when no
 *  answer of EC2 came. A change never sets AllowReassignment. */
export interface VerbatimEc2 {
  eni(id: EniId): Promise<Answer<ShownEni>>;
  /** The subnet's first IPv6 CIDR; null: it has none. */
  ipv6Cidr(subnet: SubnetId): Promise<Answer<string | null>>;
  change(change: Change): Promise<Answer<null>>;
}

/** The name of EC2's API for the change. */
export const actionOf = ({ verb, kind }: Pick<Change, 'verb' | 'kind'>) =>
  `${verb === 'assign' ? 'Assign' : 'Unassign'}${kind === 'ipv6-prefixes' ? 'Ipv6Addresses' : 'PrivateIpAddresses'}` as const;
