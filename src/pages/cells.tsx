/** Addresses as cells, with what is pointed at described beside them. */
import type { Cell } from '../views/shapes.ts';
import { CellLink } from './parts.tsx';
import { Portions } from './portions.tsx';

/** A /28. */
const BLOCK_ADDRESSES = 16;

interface CellsOptions {
  /** At most 256: more would hold the event loop. */
  readonly cells: readonly Cell[];
  /** By ENI. */
  readonly instances: Readonly<Record<string, string | null>>;
  readonly now: number;
  /** The address that was searched for. */
  readonly found: string | null;
}

export const Cells = ({ cells, instances, now, found }: CellsOptions) => (
  <div class="map" data-map>
    <div data-instances={JSON.stringify(instances)}>
      <Portions
        items={blocksOf(cells)}
        size={2}
        show={block => <Block block={block} instances={instances} now={now} found={found} />}
      />
    </div>
    <aside class="card details" data-details aria-label="Details">
      <p class="soft">
        Each cell leads to its address. Point at one, or go through them with the arrow keys, to see here who
        has it.
      </p>
    </aside>
  </div>
);

const Block = ({
  block,
  instances,
  now,
  found,
}: Omit<CellsOptions, 'cells'> & { block: readonly Cell[] }) => (
  <div class="block">
    <span aria-hidden="true">{`.${block[0]?.address.split('.').at(-1)}`}</span>
    <ul class="cells" aria-label={`${block[0]?.address} to ${block.at(-1)?.address}`}>
      {block.map(cell => (
        <CellLink
          cell={cell}
          now={now}
          instance={instances[cell.eni ?? ''] ?? null}
          isFound={cell.address === found}
        />
      ))}
    </ul>
  </div>
);

/** The cells of each /28. */
function blocksOf(cells: readonly Cell[]): (readonly Cell[])[] {
  const blockOf = ({ address }: Cell) => {
    const [, start = '', last = ''] = /^(.*\.)(\d+)$/.exec(address) ?? [];
    return start + Math.floor(Number(last) / BLOCK_ADDRESSES);
  };
  return [...Map.groupBy(cells, blockOf).values()];
}
