/** How the servers, the ledger and EC2 are. What is counted is of this server, and of its last 15 minutes. */
import * as v from 'valibot';
import { intentsIn } from './parts/ledger-tally.ts';
import { isAway } from './parts/problems.ts';
import { count, text, time } from './shapes.ts';
import type { Sources } from './views.ts';

/** How long calls took, in milliseconds: the last 500 at most. Null without any. */
const Took = v.object({
  count,
  p50Ms: v.nullable(v.number()),
  p99Ms: v.nullable(v.number()),
});

const Ec2Action = v.object({
  action: v.string(),
  /** Requests that this server may send at once by its own count; null: it has not counted yet. */
  tokens: v.nullable(v.number()),
  took: Took,
  throttled: count,
  /** Other failures. */
  failed: count,
});

const SERVER_STATES = ['running', 'stopped', 'away'] as const;
const ServerLine = v.object({
  id: v.string(),
  state: v.picklist(SERVER_STATES),
  startedAt: time,
  seenAt: time,
  stoppedAt: v.nullable(time),
  /** It is the one that made this view. */
  isThis: v.boolean(),
});

export const HealthView = v.object({
  now: time,
  version: v.string(),
  runtime: v.string(),
  servers: v.array(ServerLine),
  ec2: v.object({
    /** `ok`, or the code of the error with which EC2's last answer ended; null: none was asked for. */
    last: text,
    actions: v.array(Ec2Action),
  }),
  store: v.object({
    commits: Took,
    movesPerCommit: v.nullable(v.number()),
  }),
  /** Docker's calls. */
  requests: v.array(v.object({ method: v.string(), took: Took, failed: count })),
  warm: v.object({ hits: count, misses: count, earlyReuses: count }),
  /** EC2 calls without a result in the ledger. */
  intents: v.object({
    sent: count,
    inDoubt: count,
    overdue: count,
    oldestMs: v.number(),
  }),
  withheld: count,
  /** When this server last compared a subnet with EC2. One of several servers does that. */
  reconciled: v.array(v.object({ subnet: v.string(), at: v.nullable(time) })),
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
