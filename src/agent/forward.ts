/** Sends a call of Docker on to one of the servers, and to another when that one is away. Goes on after Docker was told
 *  of a failure, where an address would stay held for nobody. */
import * as v from 'valibot';
import { IpamError } from '../domain/error.ts';
import { type EniId, parsePoolId } from '../domain/ids.ts';
import type { Log } from '../domain/log.ts';
import { REPEATED_FOR_MS } from '../domain/origin.ts';
import { cleaned } from '../domain/text.ts';
import { GIVEN_TO, REQUEST_ID, SENT_MS_AGO } from '../http/identity.ts';
import { createSeldom } from '../http/seldom.ts';
import type { Identity } from './identity.ts';
import { createPatience } from './patience.ts';
import {
  type Answer,
  formatServer,
  moreTelling,
  NotSentError,
  type SendCall,
  type ServerUrl,
} from './server-client.ts';

export const REQUEST_ADDRESS = '/IpamDriver.RequestAddress';
export const RELEASE_ADDRESS = '/IpamDriver.ReleaseAddress';

export interface ForwardDeps {
  readonly servers: readonly ServerUrl[];
  readonly serverCa: string | null;
  readonly identity: Pick<Identity, 'current' | 'refused'>;
  readonly send: SendCall;
  /** The longest time until Docker has an answer, in milliseconds. */
  readonly boundMs: number;
  /** A monotonic clock, in milliseconds. */
  readonly clock: () => number;
  /** See domain/clock.ts. It says how old a call is. */
  readonly deadlineClock: () => number;
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
  /** Makes an id of a call: a UUID. */
  readonly newId: () => string;
  readonly log: Log;
}

export interface Forwarding {
  /** Returns the body of the answer, in JSON. `id`: the call's, the same in each repetition. Throws unavailable or denied
   *  when no server has answered in time. Then a release is owed, and so is a request that a server may have carried
   *  out: it is repeated until a server answers, and what it was given is released. */
  forward(path: string, body: string, id: string): Promise<unknown>;
  /** Releases the address of an answer that Docker has not received. `id`: that of the request. */
  giveBack(body: string, answer: unknown, id: string): Promise<void>;
  /** The ENIs of the calls that have no answer yet, the owed ones too. */
  unanswered(): EniId[];
  /** Resolves when no call is owed, or after `boundMs`; then it logs what is left. Evidence of the host ends what these
   *  calls leave held. */
  settle(boundMs: number): Promise<void>;
}

/** The longest time for one server. It may be one of several behind one name. */
const ATTEMPT_MS_MAX = 60_000;
/** Pauses after all servers were asked in vain. */
const PAUSE_MS_MIN = 100;
const PAUSE_MS_MAX = 2_000;
const OWED_PAUSE_MS_MAX = 30_000;
/** More calls than a host can have addresses. */
const OWED_MAX = 2_000;
/** More addresses than a host can have. */
const GIVEN_MAX = 10_000;

/** A call without an answer. */
interface Going {
  readonly path: string;
  readonly body: string;
  readonly id: string;
  /** Null: it is for none, or cannot be read. */
  readonly eni: EniId | null;
  /** Of a release: the id of the request that was given the address; undefined: not known. */
  readonly givenTo: string | undefined;
  /** On the clock, and on the clock of ages. */
  readonly since: number;
  readonly bornAt: number;
  /** A server may have carried it out. */
  mayBeDone: boolean;
  logged: string;
}

const TEXT_CHARACTERS_MAX = 500;
const ERROR_CHARACTERS_MAX = 4000;
const text = v.pipe(
  v.string(),
  v.check(given => cleaned(given, TEXT_CHARACTERS_MAX) === given),
);
const Answered = v.object({
  PoolID: v.optional(text),
  Pool: v.optional(text),
  Address: v.optional(text),
  Data: v.optional(v.record(text, text)),
  Error: v.optional(
    v.pipe(
      v.string(),
      v.transform(given => cleaned(given, ERROR_CHARACTERS_MAX)),
    ),
  ),
});
const Asked = v.object({ PoolID: v.string() });
const Given = v.object({ Address: v.pipe(v.string(), v.minLength(1)) });

export function createForwarding(deps: ForwardDeps): Forwarding {
  const { servers, serverCa, identity, boundMs, clock, deadlineClock, wait, log } = deps;
  const send = createPatience(deps);
  const seldom = createSeldom(log); // Docker may start many containers again and again while no server answers
  const going = new Set<Going>();
  const owed = new Map<Going, Promise<void>>();
  /** The ids of the requests that were given addresses, by ENI and address. A release names the request, so that a copy of
   *  it that comes late ends no later holding. */
  const given = new Map<string, string>();
  /** The index of the server that answered last. */
  let preferred = 0;

  async function ask(server: ServerUrl, call: Going, until: number): Promise<unknown> {
    const credential = await identity.current(until);
    const answer = await send(server, {
      path: call.path,
      body: call.body,
      headers: headersOf(call),
      withinMs: Math.max(1, Math.min(ATTEMPT_MS_MAX, until - clock())),
      agent: credential.agent,
      serverCa,
    }).catch(error => {
      call.mayBeDone ||= !(error instanceof NotSentError);
      throw error;
    });
    if (answer.status === 403) identity.refused(credential);
    const told = answer.status === 200 ? answerIn(answer.text) : undefined;
    if (told !== undefined) {
      if (call.path === REQUEST_ADDRESS && told.Address) noteGiven(call, told.Address);
      return told;
    }
    call.mayBeDone ||= !REFUSALS.includes(answer.status);
    throw refusalIn(answer, server);
  }

  const headersOf = ({ id, bornAt, givenTo }: Going): Record<string, string> => ({
    [REQUEST_ID]: id,
    [SENT_MS_AGO]: String(Math.round(deadlineClock() - bornAt)),
    ...(givenTo === undefined ? {} : { [GIVEN_TO]: givenTo }),
  });

  function noteGiven({ eni, id }: Going, address: string): void {
    const [oldest] = given.keys();
    if (given.size >= GIVEN_MAX && oldest !== undefined) given.delete(oldest);
    given.set(`${eni} ${address.split('/')[0]}`, id);
  }

  function takeGiven(eni: EniId | null, ip: string | undefined): string | undefined {
    const id = given.get(`${eni} ${ip}`);
    given.delete(`${eni} ${ip}`);
    return id;
  }

  /** Asks one server after the other until `until`. */
  async function repeat(call: Going, until: number, pauseMsMax: number): Promise<unknown> {
    let reason: IpamError | null = null;
    for (let tries = 1; ; tries++) {
      const index = preferred;
      try {
        return await ask(servers[index] as ServerUrl, call, until);
      } catch (error) {
        if (!(error instanceof IpamError)) throw error;
        noteFailure(call, error);
        reason = moreTelling(reason, error);
      }
      if (preferred === index) preferred = (index + 1) % servers.length;
      const isRound = tries % servers.length === 0;
      const pauseMs = isRound ? Math.min(pauseMsMax, PAUSE_MS_MIN * 2 ** (tries / servers.length - 1)) : 0;
      if (clock() + pauseMs >= until) throw reason;
      if (pauseMs > 0) await wait(pauseMs);
    }
  }

  function noteFailure(call: Going, { line }: IpamError): void {
    if (line !== call.logged)
      seldom('warn', 'call not answered', { path: call.path, request: call.id, error: line });
    call.logged = line;
  }

  async function forward(path: string, body: string, id: string): Promise<unknown> {
    const [since, bornAt] = [clock(), deadlineClock()];
    const eni = eniIn(body);
    const givenTo = path === RELEASE_ADDRESS ? takeGiven(eni, addressIn(body)) : undefined;
    const call = { path, body, id, eni, givenTo, since, bornAt, mayBeDone: false, logged: '' };
    going.add(call);
    try {
      return await repeat(call, since + boundMs, PAUSE_MS_MAX);
    } catch (error) {
      if (path === RELEASE_ADDRESS || (path === REQUEST_ADDRESS && call.mayBeDone)) owe(call);
      throw error;
    } finally {
      if (!owed.has(call)) going.delete(call);
    }
  }

  function owe(call: Going): void {
    if (owed.size >= OWED_MAX) {
      giveUp(call, `${OWED_MAX} calls wait already`);
      return;
    }
    const work = make(call).finally(() => {
      owed.delete(call);
      going.delete(call);
    });
    owed.set(call, work);
  }

  async function make(call: Going): Promise<void> {
    const { path, body, id } = call;
    try {
      const answer = await repeat(call, call.since + REPEATED_FOR_MS, OWED_PAUSE_MS_MAX);
      log('info', 'call answered late', { path, request: id });
      if (path === REQUEST_ADDRESS) await giveBack(body, answer, id);
    } catch (error) {
      giveUp(call, error);
    }
  }

  /** What the call leaves held stays so until evidence of the host ends it. */
  function giveUp({ path, id, eni, body }: Going, error: unknown): void {
    const ip = path === RELEASE_ADDRESS ? addressIn(body) : undefined;
    log('error', 'call given up', {
      path,
      request: id,
      eni,
      ip,
      error: error instanceof IpamError ? error.line : error,
    });
  }

  async function giveBack(body: string, answer: unknown, id: string): Promise<void> {
    const asked = v.safeParse(Asked, parse(body));
    const given = v.safeParse(Given, answer);
    if (!asked.success || !given.success) return;
    const [ip = ''] = given.output.Address.split('/');
    log('info', 'address released: Docker has not received it', { ip, request: id });
    const release = JSON.stringify({ PoolID: asked.output.PoolID, Address: ip });
    await forward(RELEASE_ADDRESS, release, deps.newId()).catch(error => {
      if (!(error instanceof IpamError)) throw error; // else it is owed
    });
  }

  return {
    forward,
    giveBack,
    unanswered: () => [...new Set([...going].flatMap(({ eni }) => eni ?? []))],
    async settle(withinMs) {
      const until = clock() + withinMs;
      const over = new AbortController();
      // A request that is answered leaves a release.
      while (owed.size > 0 && clock() < until)
        await Promise.race([Promise.all(owed.values()), wait(until - clock(), over.signal)]);
      over.abort();
      for (const call of owed.keys()) giveUp(call, 'the agent stops');
    },
  };
}

/** Statuses of a server that has not carried out the call: its client is not obeyed, or its ledger cannot be used. */
const REFUSALS = [403, 503];

function eniIn(body: string): EniId | null {
  const asked = v.safeParse(Asked, parse(body));
  try {
    return asked.success ? parsePoolId(asked.output.PoolID).eni : null;
  } catch {
    return null;
  }
}

function addressIn(body: string): string | undefined {
  const released = v.safeParse(Given, parse(body));
  return released.success ? released.output.Address : undefined;
}

/** Returns what Docker reads of an answer; undefined: it is not one of its protocol. */
function answerIn(text: string): v.InferOutput<typeof Answered> | undefined {
  const body = parse(text);
  const result = v.safeParse(Answered, body);
  return result.success && !Array.isArray(body) ? result.output : undefined;
}

/** Undefined: it is no JSON. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function refusalIn({ status, text }: Answer, server: ServerUrl): IpamError {
  const { Error: line } = (parse(text) ?? {}) as { Error?: unknown };
  const why = typeof line === 'string' ? line : `status ${status}`;
  return new IpamError(status === 403 ? 'denied' : 'unavailable', `${formatServer(server)} answers: ${why}`);
}
