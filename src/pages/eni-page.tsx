/** One ENI: its room, its pool, its addresses, and what moved last. */
import type { EniView } from '../views/eni.ts';
import { Calls } from './address-page.tsx';
import { Cells } from './cells.tsx';
import { Address, Container, CountsList, type Fact, Facts, Legend, Name, Table, Time } from './parts.tsx';

export const EniPage = ({ view }: { view: EniView }) => (
  <>
    <div class="title">
      <h1 class="mono">{view.id}</h1>
      <span id="live" role="status"></span>
    </div>
    <section class="card" aria-label="The ENI" data-fresh="eni">
      <Facts facts={factsOf(view)} />
      <CountsList counts={view.counts} />
    </section>
    <h2>Its addresses</h2>
    {view.addresses.length === 0 ? (
      <p class="empty" data-map>
        It has none.
      </p>
    ) : (
      <Cells cells={view.addresses} instances={{ [view.id]: view.instance }} now={view.now} found={null} />
    )}
    <div data-fresh="moves">
      <h2>What moved last</h2>
      {view.moves.length === 0 ? (
        <p class="empty">Nothing has.</p>
      ) : (
        <Table what="What moved last" head={['address', 'status', 'since', 'container']}>
          {view.moves.map(({ subnet, address, status, since, container, containerId }) => (
            <tr>
              <th scope="row">
                <Address subnet={subnet} address={address} />
              </th>
              <td>{status}</td>
              <td>
                <Time ms={since} />
              </td>
              <td>
                <Container name={container} id={containerId} />
              </td>
            </tr>
          ))}
        </Table>
      )}
    </div>
    <div data-fresh="calls">
      {view.calls.length === 0 ? null : (
        <>
          <h2>Latest EC2 calls</h2>
          <Calls calls={view.calls} />
        </>
      )}
    </div>
    <Legend />
  </>
);

function factsOf(view: EniView): Fact[] {
  const { limit, room, prefixes, marks, usable, resting, releasedAt } = view;
  return [
    ['instance', <span class="mono">{view.instance ?? '–'}</span>],
    [
      'subnet',
      <a class="mono" href={`/subnets/${view.subnet}`}>
        {view.subnet}
      </a>,
    ],
    ['primary address', <Address subnet={view.subnet} address={view.primary} />],
    view.mac !== null && ['MAC', <span class="mono">{view.mac}</span>],
    view.attachment !== null && ['attachment', <span class="mono">{view.attachment}</span>],
    view.tenant !== null && ['tenant', <Name text={view.tenant} />],
    ['of this ledger', view.ours ? 'yes' : 'no: it is served when Docker makes a network on it'],
    [
      'limit',
      limit === null
        ? 'not known'
        : `${limit} addresses${prefixes > 0 ? `, ${prefixes} of them prefixes` : ''}; room for ${room ?? '?'} more`,
    ],
    ['ready', `${usable} rested, ${resting} resting; filled up to ${marks.high} when below ${marks.low}`],
    releasedAt !== null && ['no network of Docker since', <Time ms={releasedAt} />],
  ];
}
