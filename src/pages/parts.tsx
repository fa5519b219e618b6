/** Pieces that several pages share. */
import type { Child } from 'hono/jsx';
import { shortId } from '../domain/container.ts';
import type { Cell, Counts } from '../views/shapes.ts';
import { KINDS, type Kind, lookOf } from './cell.ts';
import { isTime, utc } from './time.ts';

/** The order in which a bar shows statuses: what is used first, what is left last. */
const BAR_ORDER = ['allocated', 'ready', 'assigning', 'unassigning', 'occupied', 'reserved', 'free'] as const;

/** How many of the cells have each status. */
export function countsOf(cells: readonly Cell[]): Counts {
  const counts = Object.fromEntries(BAR_ORDER.map(status => [status, 0])) as Counts;
  for (const { status } of cells) counts[status]++;
  return counts;
}

/** A bar of the statuses, each as wide as its part. It is drawn with attributes, since the policy of the pages allows
 *  no style in them. */
export const Bar = ({ counts }: { counts: Counts }) => {
  let at = 0;
  const parts = BAR_ORDER.filter(status => counts[status] > 0).map(status => {
    const x = at;
    at += counts[status];
    return <rect class={`f-${status}`} x={x} width={counts[status]} y="0" height="1" />;
  });
  return (
    <svg class="bar" viewBox={`0 0 ${Math.max(at, 1)} 1`} preserveAspectRatio="none" aria-hidden="true">
      {parts}
    </svg>
  );
};

export const Sign = ({ kind }: { kind: Kind }) => (
  <i class={`cell s-${kind}`} aria-hidden="true">
    {KINDS[kind].sign}
  </i>
);

export const CountsList = ({ counts }: { counts: Counts }) => (
  <dl class="counts">
    {BAR_ORDER.map(status => (
      <div>
        <dt>
          <Sign kind={status} />
          {status}
        </dt>
        <dd data-count={status}>{counts[status]}</dd>
      </div>
    ))}
  </dl>
);

export const Legend = () => (
  <ul class="legend" aria-label="Legend">
    {Object.entries(KINDS).map(([kind, { means }]) => (
      <li>
        <Sign kind={kind as Kind} />
        {kind}: {means}
      </li>
    ))}
    <li>
      <i class="cell s-free resting" aria-hidden="true"></i>shaded: rests before it is given again
    </li>
    <li>
      <i class="cell s-free drift" aria-hidden="true"></i>outlined: ledger and EC2 differ
    </li>
  </ul>
);

interface CellLinkOptions {
  readonly cell: Cell;
  readonly now: number;
  /** Of its ENI. */
  readonly instance: string | null;
  /** It is what was searched for. */
  readonly isFound: boolean;
}
export const CellLink = ({ cell, now, instance, isFound }: CellLinkOptions) => {
  const { sign, classes, label, facts } = lookOf(cell, now, instance);
  return (
    <li>
      <a
        class={isFound ? `${classes} found` : classes}
        href={addressPath(cell.subnet, cell.address)}
        data-ip={cell.address}
        data-subnet={cell.subnet}
        data-generation={cell.generation}
        data-facts={JSON.stringify(facts)}
        aria-label={label}
      >
        {sign}
      </a>
    </li>
  );
};

const addressPath = (subnet: string, ip: string): string => `/subnets/${subnet}/addresses/${ip}`;

export const Address = ({ subnet, address }: { subnet: string | null; address: string | null }) =>
  subnet === null || address === null ? (
    <span class="mono">{address ?? '–'}</span>
  ) : (
    <a class="mono" href={addressPath(subnet, address)}>
      {address}
    </a>
  );

export const Time = ({ ms }: { ms: number | null }) =>
  ms === null || ms === 0 || !isTime(ms) ? (
    <>–</>
  ) : (
    <time datetime={new Date(ms).toISOString()}>{utc(ms)}</time>
  );

/** A name from outside. Its writing direction changes nothing around it. */
export const Name = ({ text }: { text: string | null }) => (text === null ? <>–</> : <bdi>{text}</bdi>);

/** A container: its name and the digits of its id that Docker shows, as far as they are known. */
export const Container = ({ name, id }: { name: string | null; id: string | null }) => (
  <>
    {name !== null || id === null ? <Name text={name} /> : null}
    {name !== null && id !== null ? ' ' : null}
    {id === null ? null : (
      <span class="mono soft" title={id}>
        {shortId(id)}
      </span>
    )}
  </>
);

export const Eni = ({ id }: { id: string | null }) =>
  id === null ? (
    <>–</>
  ) : (
    <a class="mono" href={`/enis/${id}`}>
      {id}
    </a>
  );

/** A table that scrolls by itself where the page is narrow, by keyboard too. `what` names it. */
export const Table = ({
  what,
  head,
  children,
}: {
  what: string;
  /** One of a column of numbers is in an array. */
  head: readonly (string | readonly [string])[];
  children?: Child;
}) => (
  <section class="table" aria-label={what} tabindex={0}>
    <table>
      <thead>
        <tr>
          {head.map(name => (
            <th scope="col" class={typeof name === 'string' ? '' : 'number'}>
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>{children}</tbody>
    </table>
  </section>
);

/** False: it is left out. */
export type Fact = readonly [name: string, value: Child] | false;

export const Facts = ({ facts }: { facts: readonly Fact[] }) => (
  <dl class="facts">
    {facts
      .filter(fact => fact !== false)
      .map(([name, value]) => (
        <>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </>
      ))}
  </dl>
);
