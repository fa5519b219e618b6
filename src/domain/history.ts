/** The history: who held an address, when, and what ended that; and which calls changed EC2. */
import type { Ipv4 } from './address.ts';
import { type Allocation, type Cause, type Change, containerIdOf, type MoveName } from './allocation.ts';
import type { EniId, InstanceId } from './ids.ts';

/** The moves that end a holding, and their usual causes. A surrender ends one whose record was lost. Only a claim begins
 *  one, at a request. */
const ENDS = {
  undo: 'rollback',
  'undo missing': 'rollback',
  release: 'release',
  retire: 'release',
  surrender: 'release',
} as const satisfies Partial<Record<MoveName, Cause>>;

/** The length of the server's id at the start of its tokens. */
export const SERVER_ID_CHARS = 8;
export const serverOf = (token: string): string => token.slice(0, SERVER_ID_CHARS);

export const endsHolding = (move: MoveName): boolean => Object.hasOwn(ENDS, move);

export const causeOf = ({ move, cause }: Pick<Change, 'move' | 'cause'>): Cause =>
  cause ?? ENDS[move as keyof typeof ENDS];

/** One time for which an address was held. Times are in milliseconds of the store's clock. */
export interface Tenure {
  /** Null: its record was lost. */
  readonly since: number | null;
  /** Null: it is held. */
  readonly until: number | null;
  readonly isHeld: boolean;
  readonly eni: EniId | null;
  readonly instance: InstanceId | null;
  /** The container's name and id, as far as they are known: engines before 29 do not send the name, none sends the id, and
   *  not every container has been seen by a reading of its host. */
  readonly container: string | null;
  readonly containerId: string | null;
  /** The call that began it, and the server that answered. Null: not known, such as of a server of the release before. */
  readonly request: string | null;
  readonly server: string | null;
  /** What ended it, by which call at which server. */
  readonly endedBy: Cause | null;
  readonly endRequest: string | null;
  readonly endServer: string | null;
}

/** What a claim notes for the history. */
export interface Beginning {
  /** The time of the claim. */
  readonly at: number;
  readonly call: string | null;
  readonly server: string;
}

/** The holding of a row that is held. `noted` may be of an earlier claim, since a server of the release before notes
 *  none. */
export function tenureOf(row: Allocation, noted: Beginning | null): Tenure {
  const begin = noted?.at === row.movedAt ? noted : null;
  return {
    ...{ since: row.movedAt, until: null, isHeld: true },
    ...{ eni: row.iface, instance: row.instance, container: row.holder, containerId: containerIdOf(row) },
    ...{ request: begin?.call ?? null, server: begin?.server ?? null },
    ...{ endedBy: null, endRequest: null, endServer: null },
  };
}

/** The holding that the change ended. `before` is the row before it. */
export function endedTenure(
  before: Allocation,
  noted: Beginning | null,
  change: Change,
  { movedAt, token }: Allocation,
): Tenure {
  const wasHeld = before.status === 'allocated';
  return {
    ...tenureOf({ ...before, ...(wasHeld ? {} : { holder: null, instance: null }) }, wasHeld ? noted : null),
    ...{ since: wasHeld ? before.movedAt : null, until: movedAt, isHeld: false },
    ...{ endedBy: causeOf(change), endRequest: change.call ?? null, endServer: serverOf(token ?? '') },
  };
}

/** An EC2 call that was to change something. It is noted with its intents, and its result when they are settled. */
export interface Ec2CallRecord {
  readonly id: string;
  /** When its intents were written, in milliseconds of the store's clock. */
  readonly at: number;
  readonly action: 'assign' | 'unassign';
  readonly iface: EniId;
  readonly ips: readonly Ipv4[];
  readonly server: string;
  /** When its result was noted, in milliseconds of the store's clock, and `done` or EC2's refusal. Null: none was; EC2 has
   *  not answered, or the server has ended. */
  readonly endedAt: number | null;
  readonly result: string | null;
}

/** Longer results are cut. */
export const RESULT_CHARS_MAX = 500;

/** The action of the EC2 call that begins with this change. `repair` puts a held address on its ENI again. */
export const actionOf = ({ move }: Pick<Change, 'move'>): Ec2CallRecord['action'] =>
  move === 'assign' || move === 'repair' ? 'assign' : 'unassign';

/** The EC2 calls that the changes begin, by their ids, and the results of those that they end. */
export function ec2CallsIn(changes: readonly Change[]) {
  const begun = Map.groupBy(
    changes.filter(({ ec2 }) => ec2 !== undefined && ec2.result === undefined),
    ({ ec2 }) => ec2?.id ?? '',
  );
  const ended = new Map(
    changes.flatMap(({ ec2 }) => (ec2?.result === undefined ? [] : [[ec2.id, ec2.result] as const])),
  );
  return { begun, ended };
}
