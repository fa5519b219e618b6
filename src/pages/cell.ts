/** How one address looks on the map: the same words, signs and classes for the server and for the browser's script. */
import { shortId } from '../domain/container.ts';
import type { Cell } from '../views/shapes.ts';
import { duration, utc } from './time.ts';

export interface Look {
  readonly kind: Kind;
  /** One character. */
  readonly sign: string;
  readonly classes: string;
  /** One sentence. */
  readonly label: string;
  /** What the details show, each with its name. */
  readonly facts: readonly (readonly [name: string, value: string])[];
}

/** The sign and the meaning of each kind of cell, in the order of the legend. */
export const KINDS = {
  allocated: { sign: '●', means: 'a container has it' },
  ready: { sign: '○', means: 'on its ENI, no container has it' },
  free: { sign: '·', means: 'on no ENI' },
  assigning: { sign: '↑', means: 'EC2 is asked to put it on an ENI' },
  unassigning: { sign: '↓', means: 'EC2 is asked to take it off its ENI' },
  occupied: { sign: '◆', means: 'in use by something else' },
  reserved: { sign: '×', means: 'never given' },
  operator: { sign: 'R', means: 'reserved by an operator' },
} as const;
export type Kind = keyof typeof KINDS;

const kindOf = ({ status, reservedFor }: Cell): Kind => (reservedFor === null ? status : 'operator');

/** `now`: of the ledger's clock. `instance`: that of its ENI. */
export function lookOf(cell: Cell, now: number, instance: string | null): Look {
  const kind = kindOf(cell);
  const isResting = cell.restsUntil !== null && cell.restsUntil > now;
  const isDrift = cell.missingSince !== null;
  const facts = factsOf(cell, isResting ? (cell.restsUntil ?? now) - now : null, instance);
  return {
    kind,
    sign: KINDS[kind].sign,
    classes: ['cell', `s-${kind}`, isResting ? 'resting' : '', isDrift ? 'drift' : '']
      .filter(Boolean)
      .join(' '),
    label: `${cell.address}: ${facts.map(([name, value]) => (name === 'status' ? value : `${name} ${value}`)).join(', ')}`,
    facts,
  };
}

function factsOf(cell: Cell, restsMs: number | null, instance: string | null): (readonly [string, string])[] {
  const { status, primary, container, containerId, eni, since, reservedFor, missingSince } = cell;
  const facts: [string, string | null][] = [
    ['status', primary ? `${status}, the primary address of its ENI` : status],
    ['container', container],
    ['container id', containerId === null ? null : shortId(containerId)],
    ['ENI', eni],
    ['instance', cell.instance ?? instance],
    ['since', since === 0 ? null : utc(since)],
    ['rests for', restsMs === null ? null : duration(restsMs)],
    ['reserved for', reservedFor],
    ['missing since', missingSince === null ? null : utc(missingSince)],
  ];
  return facts.filter((fact): fact is [string, string] => fact[1] !== null);
}
