/** The overview: problems first, then each subnet. */
import type { Overview, Problem } from '../views/overview.ts';
import { Address, Eni, Name, Table, Time } from './parts.tsx';
import { Portions } from './portions.tsx';
import { SubnetBar } from './subnet-page.tsx';

/** These are worse than the others: a container may have no connection, or two may have one address. */
const BAD: readonly Problem['kind'][] = ['drift', 'overdue', 'withheld', 'server'];

export const OverviewPage = ({ view: { problems, problemsLeft, subnets, reserved } }: { view: Overview }) => (
  <>
    <div class="title">
      <h1>Overview</h1>
      <span id="live" role="status"></span>
    </div>
    <section aria-label="Problems" data-fresh="problems">
      {problems.length === 0 ? <p class="good">No problem is known.</p> : <Problems problems={problems} />}
      {problemsLeft === 0 ? null : <p>And {problemsLeft} more.</p>}
    </section>
    <section aria-label="Subnets" data-fresh="subnets">
      {subnets.length === 0 ? (
        <p>
          The ledger has no subnet yet. The first network of Docker adds one, or{' '}
          <code>ec2-ipam init SUBNET</code>.
        </p>
      ) : null}
      {subnets.map(subnet => (
        <article class="card">
          <h2>
            <a href={`/subnets/${subnet.id}`}>{subnet.cidr}</a>
          </h2>
          <p class="soft">
            <span class="mono">{subnet.id}</span> in <span class="mono">{subnet.vpc}</span>
          </p>
          <SubnetBar subnet={subnet} />
        </article>
      ))}
    </section>
    <div data-fresh="reserved">
      {reserved.length === 0 ? null : (
        <>
          <h2>Reserved by operators</h2>
          <Table what="Reserved by operators" head={['addresses', 'subnet', 'why', 'since']}>
            {reserved.map(({ subnet, addresses, first, why, since }) => (
              <tr>
                <th scope="row">
                  <a class="mono" href={`/subnets/${subnet}?at=${first}`}>
                    {addresses}
                  </a>
                </th>
                <td class="mono">{subnet}</td>
                <td>
                  <Name text={why} />
                </td>
                <td>
                  <Time ms={since} />
                </td>
              </tr>
            ))}
          </Table>
        </>
      )}
    </div>
  </>
);

const Problems = ({ problems }: { problems: readonly Problem[] }) => (
  <ul class="problems">
    <Portions items={problems} size={10} show={problem => <ProblemLine problem={problem} />} />
  </ul>
);

const ProblemLine = ({ problem: { kind, text, subnet, address, eni, since } }: { problem: Problem }) => (
  <li class={BAD.includes(kind) ? 'bad' : ''}>
    <b>{kind}</b> <Name text={text} />
    {address === null ? null : (
      <>
        {' · '}
        <Address subnet={subnet} address={address} />
      </>
    )}
    {eni === null ? null : (
      <>
        {' · '}
        <Eni id={eni} />
      </>
    )}
    {since === null ? null : (
      <span class="soft">
        {' · since '}
        <Time ms={since} />
      </span>
    )}
  </li>
);
