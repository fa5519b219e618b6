/** How the servers, the ledger and EC2 are. */
import type { HealthView } from '../views/health.ts';
import { type Fact, Facts, Table, Time } from './parts.tsx';
import { duration } from './time.ts';

type Took = HealthView['store']['commits'];

export const HealthPage = ({ view }: { view: HealthView }) => (
  <>
    <h1>Health</h1>
    <p class="soft">What is counted is of this server, and of its last 15 minutes.</p>
    <div data-fresh="health">
      <h2>EC2</h2>
      <p>
        The last answer:{' '}
        {view.ec2.last === null ? (
          'none was asked for'
        ) : (
          <strong class={view.ec2.last === 'ok' ? 'good' : 'bad-text'}>{view.ec2.last}</strong>
        )}
      </p>
      {view.ec2.actions.length === 0 ? null : (
        <Table
          what="Calls of EC2"
          head={['action', ['calls'], ['median'], ['99 %'], ['throttled'], ['failed'], ['tokens left']]}
        >
          {view.ec2.actions.map(({ action, took, throttled, failed, tokens }) => (
            <tr>
              <th scope="row">{action}</th>
              <TookCells took={took} />
              <Bad count={throttled} />
              <Bad count={failed} />
              <td class="number">{tokens === null ? '–' : Math.floor(tokens)}</td>
            </tr>
          ))}
        </Table>
      )}
      <h2>Docker's calls</h2>
      {view.requests.length === 0 ? (
        <p class="empty">There was none.</p>
      ) : (
        <Table what="Calls of Docker" head={['method', ['calls'], ['median'], ['99 %'], ['failed']]}>
          {view.requests.map(({ method, took, failed }) => (
            <tr>
              <th scope="row">{method}</th>
              <TookCells took={took} />
              <Bad count={failed} />
            </tr>
          ))}
        </Table>
      )}
      <h2>Ledger</h2>
      <section class="card" aria-label="Ledger">
        <Facts facts={factsOf(view)} />
      </section>
      <h2>Servers</h2>
      <Table what="Servers" head={['server', 'version', 'state', 'seen', 'started', 'stopped']}>
        {view.servers.map(({ id, version, state, seenAt, startedAt, stoppedAt, isThis }) => (
          <tr>
            <th scope="row" class="mono">
              {id}
              {isThis ? ' (this one)' : ''}
            </th>
            <td>{version ?? '–'}</td>
            <td class={state === 'away' ? 'bad-text' : ''}>{state}</td>
            <td>
              <Time ms={seenAt} />
            </td>
            <td>
              <Time ms={startedAt} />
            </td>
            <td>
              <Time ms={stoppedAt} />
            </td>
          </tr>
        ))}
      </Table>
      <p class="soft">
        This server runs version {view.version} on {view.runtime}.
      </p>
    </div>
  </>
);

function factsOf({ store, warm, intents, withheld, reconciled, now }: HealthView): Fact[] {
  const { commits, movesPerCommit } = store;
  return [
    [
      'commits',
      commits.count === 0
        ? 'none'
        : `${commits.count}, median ${ms(commits.p50Ms)}, 99 % within ${ms(commits.p99Ms)}, ${movesPerCommit?.toFixed(1)} moves each`,
    ],
    [
      'warm starts',
      `${warm.hits} from the pool, ${warm.misses} that waited for EC2, ${warm.earlyReuses} reused early`,
    ],
    [
      'EC2 calls without a result',
      `${intents.sent} under way, ${intents.inDoubt} in doubt, ${intents.overdue} overdue${intents.oldestMs > 0 ? `, the oldest for ${duration(intents.oldestMs)}` : ''}`,
    ],
    ['withheld addresses', withheld],
    ...reconciled.map(
      ({ subnet, at }): Fact => [
        `${subnet} compared with EC2`,
        at === null ? 'not yet by this server' : `${duration(Math.max(0, now - at))} ago`,
      ],
    ),
  ];
}

const ms = (value: number | null): string =>
  value === null ? '–' : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;

const TookCells = ({ took }: { took: Took }) => (
  <>
    <td class="number">{took.count}</td>
    <td class="number">{ms(took.p50Ms)}</td>
    <td class="number">{ms(took.p99Ms)}</td>
  </>
);

const Bad = ({ count }: { count: number }) => (
  <td class={count > 0 ? 'number bad-text' : 'number'}>{count}</td>
);
