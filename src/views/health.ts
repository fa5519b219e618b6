/** How the servers, the ledger and EC2 are. What is counted is of this server, and of its last 15 minutes. */
import * as v from 'valibot';
import { intentsIn } from './parts/ledger-tally.ts';
import { isAway } from './parts/problems.ts';
import {
  boolean,
  count,
  described,
  NOW,
  number,
  numberOrNull,
  string,
  stringOrNull,
  time,
  timeOrNull,
} from './shapes.ts';
import type { Sources } from './views.ts';

/** How long calls took. */
const Took = v.object({
  count: count('How many they were in the last 15 minutes.'),
  p50Ms: numberOrNull('Half of the last 500 took no longer, in milliseconds; null: there were none.'),
  p99Ms: numberOrNull('99 % of the last 500 took no longer, in milliseconds; null: there were none.'),
});

const Ec2Action = v.object({
  action: string('The action of the EC2 API.'),
  tokens: numberOrNull(
    'Requests that this server may send at once by its own count; null: it has not counted yet.',
  ),
  took: described(Took, 'How long the calls took.'),
  throttled: count('Calls that EC2 refused since there were too many.'),
  failed: count('Calls that failed for another reason.'),
});

const SERVER_STATES = ['running', 'stopped', 'away'] as const;
const ServerLine = v.object({
  id: string('The id of the server.'),
  state: described(
    v.picklist(SERVER_STATES),
    '`away`: its heartbeat has stopped, and it did not say that it stops.',
  ),
  startedAt: time('Its first heartbeat.'),
  seenAt: time('Its last heartbeat.'),
  stoppedAt: timeOrNull('When it said that it stops; null: it did not.'),
  version: stringOrNull('Of its program; null: it is of the release before, which writes none.'),
  isThis: boolean('Whether it is the one that made this view.'),
});

export const HealthView = v.object({
  now: NOW,
  version: string('The version of the program of this server.'),
  runtime: string('The JavaScript engine of this server, and its version.'),
  servers: described(v.array(ServerLine), 'The servers of the ledger, the one seen last first.'),
  ec2: described(
    v.object({
      last: stringOrNull(
        '`ok`, or the code of the error with which the last answer of EC2 ended; null: none was asked for.',
      ),
      actions: described(v.array(Ec2Action), 'The calls of the last 15 minutes, by action.'),
    }),
    'What EC2 answered this server.',
  ),
  store: described(
    v.object({
      commits: described(Took, 'How long commits took.'),
      movesPerCommit: numberOrNull('Moves of a commit on average; null: there was none.'),
    }),
    'The commits of this server in the last 15 minutes.',
  ),
  requests: described(
    v.array(
      v.object({
        method: string("The method of Docker's protocol."),
        took: described(Took, 'How long the calls took.'),
        failed: count('Calls that failed.'),
      }),
    ),
    "Docker's calls at this server in the last 15 minutes.",
  ),
  warm: described(
    v.object({
      hits: count('A ready address was there.'),
      misses: count('EC2 had to be asked first.'),
      earlyReuses: count('An address was given that had not rested.'),
    }),
    'Requests for an address at this server in the last 15 minutes.',
  ),
  intents: described(
    v.object({
      sent: count('Addresses of calls that may still be answered.'),
      inDoubt: count('Addresses of calls that had no answer in time.'),
      overdue: count('Addresses of calls that should have been settled.'),
      oldestMs: number(
        'How long ago the oldest of these calls was written, in milliseconds; 0: there is none.',
      ),
    }),
    'EC2 calls without a result in the ledger.',
  ),
  withheld: count('Addresses that are in use on a host, and that nobody holds.'),
  reconciled: described(
    v.array(
      v.object({
        subnet: string('The id of the subnet.'),
        at: timeOrNull('When this server last did; null: not since it started.'),
      }),
    ),
    'When this server last compared a subnet with EC2. One of several servers does that.',
  ),
});
export type HealthView = v.InferOutput<typeof HealthView>;

export async function readHealth(sources: Sources): Promise<HealthView> {
  const { store, recent, server, policy } = sources;
  const { now, rows: servers } = await store.servers();
  const times = { callDeadlineMs: policy.callDeadlineMs, intentGraceMs: policy.graceMs };
  const { intents, oldestIntentMs } = await intentsIn(store, times);
  const commits = recent.commits();
  const ec2 = recent.ec2();
  return {
    ...{ now, version: server.version, runtime: server.runtime },
    servers: servers
      .toSorted((a, b) => b.seenAt - a.seenAt)
      .map(one => ({
        ...one,
        state: one.stoppedAt !== null ? 'stopped' : isAway(one, now) ? 'away' : 'running',
        isThis: one.id === server.id,
      })),
    ec2: { last: ec2.last, actions: [...ec2.actions] },
    store: { commits: commits.took, movesPerCommit: commits.movesPerCommit },
    requests: [...recent.requests()],
    warm: recent.warm(),
    intents: {
      sent: intents.sent,
      inDoubt: intents.in_doubt,
      overdue: intents.overdue,
      oldestMs: oldestIntentMs,
    },
    withheld: (await store.usedSightings()).rows.length,
    reconciled: (await sources.subnets()).map(({ id }) => {
      const agoMs = recent.reconciledAgoMs(id);
      return { subnet: id, at: agoMs === null ? null : now - agoMs };
    }),
  };
}
