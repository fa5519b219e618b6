/** One address: what it is now, and its history. */
import type { AddressView } from '../views/address.ts';
import type { Ec2Call } from '../views/parts/history-parts.ts';
import { KINDS, lookOf } from './cell.ts';
import { Container, Eni, type Fact, Facts, Name, Sign, Table, Time } from './parts.tsx';
import { Portions } from './portions.tsx';
import { duration } from './time.ts';

/** Holdings that are shown. */
const HOLDINGS_MAX = 100;

export const AddressPage = ({ view }: { view: AddressView }) => {
  const { cell, now, instance, holdings, calls } = view;
  const { kind } = lookOf(cell, now, instance);
  return (
    <>
      <div class="title">
        <h1>{cell.address}</h1>
        <span id="live" role="status"></span>
      </div>
      <p class="soft">
        in{' '}
        <a class="mono" href={`/subnets/${cell.subnet}?at=${cell.address}`}>
          {cell.subnet}
        </a>
      </p>
      <section class="card" aria-label="Now" data-fresh="now">
        <p>
          <Sign kind={kind} /> <strong>{kind}</strong>: {KINDS[kind].means}
        </p>
        <Facts facts={factsOf(view)} />
      </section>
      <h2>Who had it</h2>
      <div data-fresh="holdings">
        {holdings.length === 0 ? (
          <p class="empty">Nothing is recorded. With --history off the server keeps no history.</p>
        ) : (
          <Holdings holdings={holdings} now={now} />
        )}
      </div>
      <div data-fresh="calls">
        {calls.length === 0 ? null : (
          <>
            <h2>EC2 calls that named it</h2>
            <Calls calls={calls} />
          </>
        )}
      </div>
    </>
  );
};

function factsOf(view: AddressView): Fact[] {
  const { cell, now, instance, isAws, restedSince, restedFrom, leftAt, leftEni } = view;
  const { missingSince, restsUntil } = cell;
  return [
    isAws && ['reserved by', 'AWS'],
    (cell.container ?? cell.containerId) !== null && [
      'container',
      <Container name={cell.container} id={cell.containerId} />,
    ],
    cell.eni !== null && ['ENI', <Eni id={cell.eni} />],
    instance !== null && ['instance', <span class="mono">{instance}</span>],
    cell.primary && ['primary', 'the primary address of its ENI'],
    cell.since > 0 && ['since', <Time ms={cell.since} />],
    cell.reservedFor !== null && ['reserved for', <Name text={cell.reservedFor} />],
    missingSince !== null && ['missing from its ENI since', <Time ms={missingSince} />],
    view.usedBy !== null && ['used by', <Name text={view.usedBy} />],
    view.unseenSince !== null && ['in use nowhere on its host since', <Time ms={view.unseenSince} />],
    view.absentSince !== null && ['on no ENI since', <Time ms={view.absentSince} />],
    restsUntil !== null && ['rests for', duration(restsUntil - now)],
    restedSince !== null && ['last released', <Time ms={restedSince} />],
    restedFrom !== null && ['on', <Eni id={restedFrom} />],
    leftAt !== null && ['last taken off an ENI', <Time ms={leftAt} />],
    leftEni !== null && ['which was', <Eni id={leftEni} />],
  ];
}

const Holdings = ({ holdings, now }: { holdings: AddressView['holdings']; now: number }) => (
  <>
    <Table
      what="Who had it"
      head={['container', 'from', 'until', ['for'], 'ENI', 'instance', 'ended by', 'request, server']}
    >
      <Portions
        items={holdings.slice(0, HOLDINGS_MAX)}
        size={10}
        show={one => <HoldingRow holding={one} now={now} />}
      />
    </Table>
    {holdings.length > HOLDINGS_MAX ? (
      <p>
        There are more: <code>ec2-ipam history</code> shows them.
      </p>
    ) : null}
  </>
);

const HoldingRow = ({ holding, now }: { holding: AddressView['holdings'][number]; now: number }) => {
  const { container, containerId, since, until, isHeld, eni, instance, endedBy, request, server } = holding;
  return (
    <tr>
      <th scope="row">
        <Container name={container} id={containerId} />
      </th>
      <td>
        <Time ms={since} />
      </td>
      <td>{isHeld ? 'now' : <Time ms={until} />}</td>
      <td class="number">{since === null ? '–' : duration(Math.max(0, (until ?? now) - since))}</td>
      <td>
        <Eni id={eni} />
      </td>
      <td class="mono">{instance ?? '–'}</td>
      <td>{endedBy ?? '–'}</td>
      <td class="mono">{[request, server].filter(Boolean).join(', ') || '–'}</td>
    </tr>
  );
};

export const Calls = ({ calls }: { calls: readonly Ec2Call[] }) => (
  <Table what="EC2 calls" head={['at', 'call', 'addresses', 'ENI', ['took'], 'result']}>
    {calls.map(({ at, action, addresses, eni, tookMs, result }) => (
      <tr>
        <th scope="row">
          <Time ms={at} />
        </th>
        <td>{action}</td>
        <td>
          <span class="mono">{addresses.join(', ')}</span>
        </td>
        <td>
          <Eni id={eni} />
        </td>
        <td class="number">{tookMs === null ? '–' : `${Math.round(tookMs)} ms`}</td>
        <td>{result ?? 'none noted'}</td>
      </tr>
    ))}
  </Table>
);
