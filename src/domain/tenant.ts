/** Tenants: which addresses count against a quota, and which moves are refused at it. */
import { type Allocation, type Change, type MoveName, ruleOf, type Status } from './allocation.ts';
import { IpamError } from './error.ts';
import type { EniId } from './ids.ts';

/** A tenant, and how many addresses its ENIs have. */
export interface Tenant {
  readonly name: string;
  /** The most addresses that its ENIs may have together; null: ENIs name it, but it was never declared. */
  readonly quota: number | null;
  /** The name of an instance profile: ENIs of its instances are the tenant's, unless their tag names another; null: none. */
  readonly profile: string | null;
  readonly used: number;
}

/** A tenant with a quota. */
export type Limited = Pick<Tenant, 'name' | 'used'> & { readonly quota: number };

/** The statuses in which an address counts. */
export const COUNTED = [
  'ready',
  'assigning',
  'unassigning',
  'allocated',
] as const satisfies readonly Status[];
const COUNTED_STATUSES: ReadonlySet<Status> = new Set(COUNTED);

/** Whether the address counts against the quota of the tenant of its ENI. */
export const isCounted = ({ status, primary }: Pick<Allocation, 'status' | 'primary'>): boolean =>
  COUNTED_STATUSES.has(status) && !primary;

/** Whether the move makes an address count that did not count before. */
export function startsToCount(move: MoveName): boolean {
  const { from, to } = ruleOf(move);
  return COUNTED_STATUSES.has(to) && !COUNTED_STATUSES.has(from);
}

/** The ENI of the row after the change. */
export function ifaceAfter({ row, move, iface }: Change): EniId | null {
  const { iface: effect } = ruleOf(move);
  return effect === 'give' ? (iface ?? null) : effect === 'clear' ? null : row.iface;
}

/** How many more addresses the tenant may have; infinite without one. */
export const roomOf = (tenant: Limited | null): number =>
  tenant === null ? Number.POSITIVE_INFINITY : Math.max(tenant.quota - tenant.used, 0);

/** The largest quota: the addresses of a /16, the largest subnet, many times over. */
export const QUOTA_MAX = 10_000_000;

const NAME = /^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$/;

/** Returns the name in lower case, since some databases do not tell "Red" from "red"; null: it is none. */
export function tenantNamed(text: string): string | null {
  const name = text.toLowerCase();
  return NAME.test(name) ? name : null;
}

/** As `tenantNamed`, but throws bad-request. `what` is the place of the name. */
export function parseTenantName(text: string, what: string): string {
  const name = tenantNamed(text);
  if (name !== null) return name;
  throw new IpamError('bad-request', `${what} "${text.slice(0, 64)}" is not a name of a tenant`, {
    hint: 'use 1 to 64 letters, digits, dots, underscores and hyphens, with a letter or digit at both ends',
  });
}

/** The tag of an ENI that names its tenant. */
export const TENANT_TAG = 'ec2-ipam:tenant';

/** The error of a request, or the text of a log line, of a tenant that is at its quota. */
export const atQuota = ({ name, quota, used }: Limited): IpamError =>
  new IpamError('exhausted', `tenant ${name} is at its quota: ${used} of ${quota} addresses are used`, {
    hint: `stop containers of ${name}, or run \`ec2-ipam tenant set ${name} --quota N\``,
  });
