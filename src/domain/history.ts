/** The history: who held an address, when, and what ended that; and which calls changed EC2. */
import type { Ipv4 } from './address.ts';
import type { Allocation, Cause, Change, MoveName } from './allocation.ts';
import type { EniId, InstanceId, SubnetId } from './ids.ts';

/** The moves that begin or end a holding, and their usual causes. A surrender ends one whose record was lost. */
const NOTED = {
  claim: 'request',
  undo: 'rollback',
  'undo missing': 'rollback',
  release: 'release',
  retire: 'release',
  surrender: 'release',
} as const satisfies Partial<Record<MoveName, Cause>>;
export type NotedMove = keyof typeof NOTED;

/** One of these moves. */
export interface HistoryRecord {
  readonly subnet: SubnetId;
  readonly ip: Ipv4;
  /** That of the row after the move. */
  readonly generation: number;
  /** In milliseconds of the store's clock. */
  readonly at: number;
  readonly move: NotedMove;
  readonly iface: EniId | null;
  /** Of a claim: the instance and the container's name, as far as they are known. */
  readonly instance: InstanceId | null;
  readonly holder: string | null;
  readonly cause: Cause;
  /** The id of the call that made the move; null: none did. */
  readonly request: string | null;
  /** The id of the server that made it. */
  readonly server: string;
}

/** The length of the server's id at the start of its tokens. */
export const SERVER_ID_CHARS = 8;

export const isNoted = ({ move }: Pick<Change, 'move'>): boolean => Object.hasOwn(NOTED, move);

export const causeOf = ({ move, cause }: Pick<Change, 'move' | 'cause'>): Cause =>
  cause ?? NOTED[move as NotedMove];

/** The record of a change that made the row what it is. */
export const recordOf = (change: Change, row: Allocation, at: number): HistoryRecord => ({
  subnet: row.subnet,
  ip: row.ip,
  generation: row.generation,
  at,
  move: change.move as NotedMove,
  iface: row.iface,
  instance: row.instance,
  holder: row.holder,
  cause: causeOf(change),
  request: change.call ?? null,
  server: (row.token ?? '').slice(0, SERVER_ID_CHARS),
});

/** One time for which an address was held. */
export interface Tenure {
  /** Null: the record of its beginning is not there. */
  readonly since: number | null;
  /** Null: it is held still, or the record of its end is not there. */
  readonly until: number | null;
  readonly isHeld: boolean;
  readonly eni: EniId | null;
  readonly instance: InstanceId | null;
  readonly container: string | null;
  /** The call that began it, and the server that answered. */
  readonly request: string | null;
  readonly server: string | null;
  /** What ended it, by which call at which server. */
  readonly endedBy: Cause | null;
  readonly endRequest: string | null;
  readonly endServer: string | null;
}

/** The tenures of one address, newest first. `records` are in the order of their generations, oldest first. */
export function tenuresOf(records: readonly HistoryRecord[]): Tenure[] {
  const tenures: Tenure[] = [];
  let open: HistoryRecord | null = null;
  for (const record of records) {
    const isClaim = record.move === 'claim';
    if (open !== null || !isClaim) tenures.push(tenureOf(open, isClaim ? null : record));
    open = isClaim ? record : null;
  }
  if (open !== null) tenures.push({ ...tenureOf(open, null), isHeld: true });
  return tenures.reverse();
}

const tenureOf = (begin: HistoryRecord | null, end: HistoryRecord | null): Tenure => ({
  since: begin?.at ?? null,
  until: end?.at ?? null,
  isHeld: false,
  eni: (begin ?? end)?.iface ?? null,
  instance: begin?.instance ?? null,
  container: begin?.holder ?? null,
  request: begin?.request ?? null,
  server: begin?.server ?? null,
  endedBy: end?.cause ?? null,
  endRequest: end?.request ?? null,
  endServer: end?.server ?? null,
});

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

/** The action of the EC2 call that begins with this change. `missed` is that of a held address that is put on its ENI
 *  again. */
export const actionOf = ({ move }: Pick<Change, 'move'>): Ec2CallRecord['action'] =>
  move === 'assign' || move === 'missed' ? 'assign' : 'unassign';

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
