/** The map of a subnet: cells for at most 256 addresses, bars for the /24 of a larger one. */
import type { SubnetSummary } from '../views/overview.ts';
import type { Cell } from '../views/shapes.ts';
import type { SubnetMap } from '../views/subnet-map.ts';
import { Cells } from './cells.tsx';
import { Bar, CountsList, countsOf, Legend } from './parts.tsx';
import { Portions } from './portions.tsx';
import { duration } from './time.ts';

const SOON_MS = 86_400_000;

/** `found`: the address that was searched for. */
export const SubnetPage = ({ map, found }: { map: SubnetMap; found: string | null }) => {
  const { subnet, block, bars } = map;
  const isPart = block !== null && block !== subnet.cidr;
  return (
    <>
      <div class="title">
        <h1>{block ?? subnet.cidr}</h1>
        <span id="live" role="status"></span>
      </div>
      <p class="soft">
        {isPart ? (
          <>
            part of <a href={`/subnets/${subnet.id}`}>{subnet.cidr}</a>,{' '}
          </>
        ) : null}
        <span class="mono">{subnet.id}</span> in <span class="mono">{subnet.vpc}</span>
      </p>
      {isPart ? <BlockCounts cells={map.cells} /> : <SubnetBar subnet={subnet} />}
      {block === null ? (
        <Bars subnet={subnet.id} bars={bars} />
      ) : (
        <>
          <h2>Addresses</h2>
          <Cells
            cells={map.cells}
            instances={Object.fromEntries(map.enis.map(({ id, instance }) => [id, instance]))}
            now={map.now}
            found={found}
          />
        </>
      )}
      <Legend />
    </>
  );
};

export const SubnetBar = ({ subnet: { id, counts, full, fullInMs } }: { subnet: SubnetSummary }) => (
  <div data-fresh={`bar-${id}`}>
    <Bar counts={counts} />
    <CountsList counts={counts} />
    <p>
      {Math.round(full * 100)} % full
      {fullInMs === null ? null : ', '}
      {fullInMs === null ? null : <FullIn ms={fullInMs} />}
    </p>
  </div>
);

const BlockCounts = ({ cells }: { cells: readonly Cell[] }) => {
  const counts = countsOf(cells);
  return (
    <div data-fresh="block">
      <Bar counts={counts} />
      <CountsList counts={counts} />
    </div>
  );
};

const FullIn = ({ ms }: { ms: number }) => {
  const words = `full in about ${duration(ms)}`;
  return ms < SOON_MS ? <strong>{words}</strong> : <span>{words}</span>;
};

const Bars = ({ subnet, bars }: { subnet: string; bars: SubnetMap['bars'] }) => (
  <>
    <h2>Blocks of 256</h2>
    <ul class="bars" data-fresh="bars">
      <Portions items={bars} size={16} show={bar => <BlockBar subnet={subnet} bar={bar} />} />
    </ul>
  </>
);

const BlockBar = ({ subnet, bar }: { subnet: string; bar: SubnetMap['bars'][number] }) => {
  const { cidr, counts, missing, reservedByOperators } = bar;
  return (
    <li>
      <a href={`/subnets/${subnet}?block=${cidr}`}>
        <span class="mono">{cidr}</span>
        <Bar counts={counts} />
        <span class="full">
          {counts.allocated}
          <span class="unseen"> held by containers</span>
        </span>
        {missing === 0 ? null : <span class="note bad-text">{missing} missing from their ENIs</span>}
        {reservedByOperators === 0 ? null : (
          <span class="note soft">{reservedByOperators} reserved by operators</span>
        )}
      </a>
    </li>
  );
};
