/** Takes what agents say of their hosts: which addresses Docker and the kernel show there. */
import { type Context, Hono } from 'hono';
import * as v from 'valibot';
import { parseIpv4 } from '../../domain/address.ts';
import { HOLDER_CHARS_MAX } from '../../domain/allocation.ts';
import { CONTAINER_ID } from '../../domain/container.ts';
import { IpamError, isError } from '../../domain/error.ts';
import type { EniId } from '../../domain/ids.ts';
import type { Log } from '../../domain/log.ts';
import { INCOMPLETE_CHARS_MAX } from '../../domain/sighting.ts';
import { cleaned, shown } from '../../domain/text.ts';
import { ENDPOINTS_MAX, type HostReading } from '../../domain/witness.ts';
import type { Testimony } from '../../ipam/sync/testimony.ts';
import { createAdmission } from '../admission.ts';
import type { Env } from '../answer.ts';
import { BODY_MAX_MS, bodyText } from '../body.ts';
import { provedHost } from '../identity.ts';
import type { InFlight } from '../in-flight.ts';
import { createSeldom } from '../seldom.ts';

/** Where an agent sends each step of a reading. */
export const WITNESS_PATHS = {
  begin: '/witness/begin',
  readings: '/witness/readings',
  probed: '/witness/probed',
} as const;
const PATHS: ReadonlySet<string> = new Set(Object.values(WITNESS_PATHS));
export const isTestimony = (path: string): boolean => PATHS.has(path);

/** Readings that are dealt with at a time. A host has one. */
const READINGS = { ofEniMax: 0, ofClientMax: 2, ofClientAlways: 1, totalMax: 50 };
/** The shortest time between two begins of a host, two readings, and two answers of its kernel, in milliseconds. A begin
 *  reads the rows of the host, and the largest reading holds up all other clients for some 80 ms. An agent has begun its
 *  last reading 750 ms before, at least. */
const OF_HOST_EVERY_MS = 500;
/** The largest reading: an instance has some thousand addresses at most, and each takes some hundred bytes. A host sends
 *  two at a time at most. */
const BODY_BYTES_MAX = 1024 * 1024;
const USES_MAX = 5_000;
const PLACES_MAX = 100;
const MACS_MAX = 10_000;
const ENIS_MAX = 1_000;

// The lengths of the ledger's columns. Texts are for people, but for the ids, which are only compared.
const text = (max: number) =>
  v.pipe(
    v.string(),
    v.transform(given => cleaned(given, max)),
  );
const nullable = (max: number) => v.nullable(text(max));
const Ip = v.pipe(
  v.string(),
  v.transform(given => parseIpv4(given, 'an address')),
);
const Mac = v.pipe(v.string(), v.regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/));
const Ticket = v.pipe(v.string(), v.uuid());
const Pid = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** 32));

const Place = v.object({
  netns: text(32),
  isHost: v.boolean(),
  pid: v.nullable(Pid),
  command: nullable(200),
  container: nullable(64),
  path: nullable(300),
});
const Endpoint = v.object({
  mac: Mac,
  container: v.nullable(v.pipe(v.string(), v.regex(CONTAINER_ID))),
});
const Use = v.object({
  ip: Ip,
  isInNetworks: v.boolean(),
  isInContainers: v.boolean(),
  places: v.pipe(v.array(Place), v.maxLength(PLACES_MAX)),
  container: v.nullable(v.object({ id: text(64), name: nullable(HOLDER_CHARS_MAX), image: nullable(255) })),
  // An agent of the release before sends none.
  endpoints: v.optional(v.pipe(v.array(Endpoint), v.maxLength(ENDPOINTS_MAX)), []),
});
const Reading = v.object({
  boot: nullable(64),
  engine: nullable(191),
  hasOtherRuntimes: v.boolean(),
  macs: v.pipe(v.array(Mac), v.maxLength(MACS_MAX)),
  uses: v.pipe(v.array(Use), v.maxLength(USES_MAX)),
  unanswered: v.pipe(
    v.array(
      v.pipe(
        text(32),
        v.transform(given => given as EniId),
      ),
    ),
    v.maxLength(ENIS_MAX),
  ),
  incomplete: nullable(INCOMPLETE_CHARS_MAX),
});
const Readings = v.object({ ticket: Ticket, reading: Reading });
const ProbeAnswers = v.object({
  ticket: Ticket,
  answers: v.pipe(
    v.array(
      v.variant('kind', [
        v.object({ mac: Mac, kind: v.literal('not ipvlan') }),
        v.object({ mac: Mac, kind: v.literal('probed'), free: v.pipe(v.array(Ip), v.maxLength(USES_MAX)) }),
        v.object({ mac: Mac, kind: v.literal('failed'), why: text(INCOMPLETE_CHARS_MAX) }),
      ]),
    ),
    v.maxLength(ENIS_MAX),
  ),
});

export interface WitnessAppOptions {
  /** Whether the ledger is open. */
  readonly isOpen: () => boolean;
  readonly inFlight: InFlight;
  /** A monotonic clock, in milliseconds. */
  readonly clock?: () => number;
}

/** `testimony` is null where --witness is off. A refusal has the status of its kind, and one line under `Error`. */
export function createWitnessApp(
  testimony: Testimony | null,
  log: Log,
  { isOpen, inFlight, clock = () => performance.now() }: WitnessAppOptions,
): Hono<Env> {
  const admission = createAdmission(READINGS);
  const refuseHasty = createPace(clock);
  const app = new Hono<Env>();
  app.use((_, next) => inFlight.track(next));
  const seldom = createSeldom(log);
  app.onError((error, c) => refusalAnswer(c, error, seldom));

  /** Handles one step of a host. */
  function step(
    path: string,
    work: (c: Context<Env>, weighing: Testimony, host: ReturnType<typeof provedHost>) => Promise<object>,
  ): void {
    app.post(path, async c => {
      const host = provedHost(c);
      if (testimony === null) return c.json({ witness: 'off' });
      if (!isOpen()) throw new IpamError('unavailable', 'the ledger is not open yet', { hint: 'try again' });
      const leave = admission.enter({ eni: null, client: host });
      try {
        return c.json(await work(c, testimony, host));
      } finally {
        leave();
      }
    });
  }

  step(WITNESS_PATHS.begin, async (_, weighing, host) => {
    refuseHasty(`begin of ${host}`);
    return await weighing.begin(host);
  });
  step(WITNESS_PATHS.readings, async (c, weighing, host) => {
    refuseHasty(`reading of ${host}`);
    const { ticket, reading } = await parsed(c, Readings);
    return { probes: await weighing.readings(host, ticket, reading satisfies HostReading) };
  });
  step(WITNESS_PATHS.probed, async (c, weighing, host) => {
    refuseHasty(`answer of ${host}`);
    const { ticket, answers } = await parsed(c, ProbeAnswers);
    await weighing.probed(host, ticket, answers);
    return {};
  });
  return app;
}

/** Returns a function that throws unavailable when the same was sent just before. Call it before the body is read. */
function createPace(clock: () => number): (what: string) => void {
  const sentAt = new Map<string, number>(); // the oldest first
  return what => {
    const now = clock();
    for (const [one, at] of sentAt) {
      if (now - at < OF_HOST_EVERY_MS) break;
      sentAt.delete(one);
    }
    if (sentAt.has(what))
      throw new IpamError('unavailable', `the last ${what} came less than ${OF_HOST_EVERY_MS} ms ago`, {
        hint: 'begin anew later',
      });
    sentAt.set(what, now);
  };
}

async function parsed<S extends v.GenericSchema>(c: Context<Env>, schema: S): Promise<v.InferOutput<S>> {
  const body = await bodyText(c, BODY_MAX_MS, BODY_BYTES_MAX);
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    throw new IpamError('bad-request', 'the body is not JSON');
  }
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw new IpamError(
    'bad-request',
    `the body is not that of this call: ${shown(v.getDotPath(issue) ?? 'it')}: ${shown(issue.message)}`,
  );
}

function refusalAnswer(c: Context<Env>, error: unknown, log: Log): Response {
  if (!(error instanceof IpamError) || error.code === 'internal') {
    log('error', 'internal error', { path: c.req.path, error });
    return c.json({ Error: 'ec2-ipam: internal error; look into the log of the server' }, 500);
  }
  log('warn', 'reading of a host refused', { path: c.req.path, code: error.code, error: error.line });
  return c.json({ Error: error.line }, statusOf(error));
}

function statusOf(error: IpamError): 400 | 403 | 409 | 503 {
  if (isError(error, 'denied')) return 403;
  if (isError(error, 'conflict')) return 409;
  return isError(error, 'bad-request') ? 400 : 503;
}
