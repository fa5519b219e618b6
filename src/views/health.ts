/** How the servers, the ledger and EC2 are. What is counted is of this server, and of its last 15 minutes. */
import * as v from 'valibot';
import { count, text, time } from './shapes.ts';

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
