/** Reads this host at intervals, and tells one of the servers what Docker and the kernel show of its addresses. */
import * as v from 'valibot';
import { parseIpv4 } from '../domain/address.ts';
import { IpamError } from '../domain/error.ts';
import type { EniId } from '../domain/ids.ts';
import type { Log } from '../domain/log.ts';
import { AFTER_RELEASE_MS, type HostReading } from '../domain/witness.ts';
import { WITNESS_PATHS } from '../http/hosts/witness.ts';
import { probeAll, type ToProbe, type Witness } from '../witness/witness.ts';
import type { Identity } from './identity.ts';
import { type Answer, formatServer, moreTelling, type SendCall, type ServerUrl } from './server-client.ts';

export interface WitnessLoopDeps {
  readonly servers: readonly ServerUrl[];
  readonly serverCa: string | null;
  readonly identity: Pick<Identity, 'current'>;
  readonly send: SendCall;
  readonly witness: Witness;
  /** The ENIs of calls that have no answer yet. */
  readonly unanswered: () => readonly EniId[];
  /** The pause between two readings, on average. */
  readonly everyMs: number;
  /** A monotonic clock, in milliseconds. */
  readonly clock: () => number;
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
  readonly random: () => number;
  readonly log: Log;
}

/** How a round ended. `not wanted`: no server weighs what hosts show. */
export type Outcome = 'told' | 'failed' | 'not wanted';

export interface WitnessLoop {
  /** Reads the host and tells a server. */
  round(): Promise<Outcome>;
  /** Does that again and again, until the signal is aborted. */
  run(signal: AbortSignal): Promise<void>;
  /** Docker has released an address, perhaps of a process that runs on: the next round comes sooner. */
  released(): void;
}

/** The longest time for one step. A ticket is valid for 30 s, and a reading takes up to 10. */
const ANSWER_MS_MAX = 10_000;
/** The pause after servers that do not weigh what hosts show, in milliseconds. */
const SELDOM_MS = 600_000;
/** The random factor of each pause, so that hosts that started together do not stay in step. */
const JITTER_MIN = 0.75;
const JITTER_MAX = 1.25;
/** Namespaces of one address that are told. More of them say no more; any user of the host can make many, and a server
 *  reads 1 MB. */
const PLACES_MAX = 1;

const Probes = v.array(
  v.object({
    mac: v.string(),
    ips: v.array(
      v.pipe(
        v.string(),
        v.transform(text => parseIpv4(text, 'an address of the server')),
      ),
    ),
  }),
);
const Off = v.object({ witness: v.literal('off') });
const Begun = v.object({ ticket: v.string(), enis: Probes });
const Weighed = v.object({ probes: Probes });
const Refused = v.object({ Error: v.string() });

export function createWitnessLoop(deps: WitnessLoopDeps): WitnessLoop {
  const { servers, serverCa, identity, send, witness, unanswered, everyMs, clock, wait, random, log } = deps;
  /** The index of the server that is told. */
  let preferred = 0;
  let said = '';
  /** Ends the pause between two rounds; null: there is none. */
  let pause: AbortController | null = null;
  let pauseBeganAt = 0;
  let isWanted = true;
  /** An address was released since the last round began. */
  let isSoon = false;

  async function ask(server: ServerUrl, path: string, body: object): Promise<Answer> {
    const credential = await identity.current(clock() + ANSWER_MS_MAX);
    return await send(server, {
      path,
      body: JSON.stringify(body),
      withinMs: ANSWER_MS_MAX,
      agent: credential.agent,
      serverCa,
    });
  }

  /** Asks one server after the other to begin. Null: each that answers weighs nothing. */
  async function begin(): Promise<{ server: ServerUrl; begun: v.InferOutput<typeof Begun> } | null> {
    let failure: IpamError | null = null;
    for (let tries = 0; tries < servers.length; tries++) {
      const server = servers[preferred] as ServerUrl;
      try {
        const answer = await ask(server, WITNESS_PATHS.begin, {});
        // A server of the release before knows no such call.
        const isOff = answer.status === 404 || v.is(Off, parse(answer.text));
        if (!isOff) return { server, begun: bodyOf(answer, Begun, server) };
      } catch (error) {
        if (!(error instanceof IpamError)) throw error;
        failure = moreTelling(failure, error);
      }
      preferred = (preferred + 1) % servers.length;
    }
    if (failure !== null) throw failure;
    return null;
  }

  async function tell(): Promise<Outcome> {
    const before = unanswered();
    const found = await begin();
    if (found === null) return 'not wanted';
    const { server, begun } = found;
    const { ticket, enis } = begun;
    if (enis.length === 0) return 'told';
    const reading = await witness.read();
    // A call that began since the server looked, and was answered, has changed the row that the server knows.
    const all = [...new Set([...before, ...unanswered()])];
    const about = { ...only(reading, enis), unanswered: all };
    const answer = await ask(server, WITNESS_PATHS.readings, { ticket, reading: about });
    const { probes } = bodyOf(answer, Weighed, server);
    if (probes.length === 0) return 'told';
    const answers = await probeAll(witness, probes);
    bodyOf(await ask(server, WITNESS_PATHS.probed, { ticket, answers }), v.object({}), server);
    return 'told';
  }

  async function round(): Promise<Outcome> {
    try {
      const outcome = await tell();
      said = '';
      return outcome;
    } catch (error) {
      if (!(error instanceof IpamError)) throw error;
      if (error.line !== said) log('warn', 'what this host shows was not told', { error: error.line });
      said = error.line;
      return 'failed';
    }
  }

  const jittered = (ms: number): number => ms * (JITTER_MIN + (JITTER_MAX - JITTER_MIN) * random());

  return {
    round,
    async run(signal) {
      signal.addEventListener('abort', () => pause?.abort(), { once: true });
      await wait(everyMs * random(), signal);
      while (!signal.aborted) {
        isSoon = false;
        isWanted = (await round()) !== 'not wanted';
        if (signal.aborted) return;
        const pauseMs = jittered(isWanted ? everyMs : SELDOM_MS);
        pauseBeganAt = clock();
        pause = new AbortController();
        await wait(isWanted && isSoon ? Math.min(AFTER_RELEASE_MS, pauseMs) : pauseMs, pause.signal);
        pause = null;
      }
    },
    released() {
      if (isSoon) return;
      isSoon = true;
      const now = pause;
      if (now === null || !isWanted) return;
      void wait(Math.max(0, pauseBeganAt + AFTER_RELEASE_MS - clock()), now.signal).then(() => now.abort());
    },
  };
}

/** What the reading shows of these addresses. The server knows no others. */
function only(reading: HostReading, enis: readonly ToProbe[]): HostReading {
  const known = new Set(enis.flatMap(({ ips }) => ips));
  const isAsked = (mac: string) => enis.some(eni => eni.mac === mac);
  const uses = reading.uses
    .filter(({ ip }) => known.has(ip))
    .map(use => ({
      ...{ ...use, places: someOf(use.places) },
      endpoints: use.endpoints.filter(({ mac }) => isAsked(mac)),
    }));
  const macs = reading.macs.filter(isAsked);
  return { ...reading, uses, macs };
}

/** Those of containers first: they alone keep a ready address from others. */
const someOf = (places: HostReading['uses'][number]['places']) =>
  places.toSorted((a, b) => Number(a.isHost) - Number(b.isHost)).slice(0, PLACES_MAX);

/** Throws denied or unavailable when the server has not done it. */
function bodyOf<S extends v.GenericSchema>(
  { status, text }: Answer,
  schema: S,
  server: ServerUrl,
): v.InferOutput<S> {
  const body = parse(text);
  const result = v.safeParse(schema, body);
  if (status === 200 && result.success) return result.output;
  const refused = v.safeParse(Refused, body);
  const why = refused.success ? refused.output.Error : `status ${status}`;
  throw new IpamError(status === 403 ? 'denied' : 'unavailable', `${formatServer(server)} answers: ${why}`);
}

/** Undefined: it is no JSON. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
