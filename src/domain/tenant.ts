/** Tenants: which addresses count against a quota, and which moves are refused at it. */
import { type Allocation, type Change, type MoveName, ruleOf, type Status } from './allocation.ts';
import type { EniId } from './ids.ts';

/** A tenant, and how many addresses its ENIs have. */
export interface Tenant {
  readonly name: string;
  /** The most addresses that its ENIs may have together; null: ENIs name it, but it was never declared. */
  readonly quota: number | null;
  readonly used: number;
}

/** A tenant with a quota. */
export type Limited = Tenant & { readonly quota: number };

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
