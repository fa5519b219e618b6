/** Docker's remote IPAM protocol. https://github.com/moby/moby/blob/master/libnetwork/docs/ipam.md */
import { setImmediate as turn } from 'node:timers/promises';
import { type Context, Hono } from 'hono';
import * as v from 'valibot';
import { formatCidr, type Ipv4, parseIpv4 } from '../domain/address.ts';
import { IpamError, isError } from '../domain/error.ts';
import { type EniId, type Pool, parsePoolId } from '../domain/ids.ts';
import type { Log } from '../domain/log.ts';
import type { Observer } from '../domain/observer.ts';
import { ANYBODY, type Authorize, ledgerWaitMs, type Origin } from '../domain/origin.ts';
import { cleaned, shown } from '../domain/text.ts';
import type { Pools } from '../ipam/pools.ts';
import type { Allocator } from '../ipam/request/allocate.ts';
import type { Client } from '../ipam/request/release.ts';
import { createAdmission, NETWORKS, RELEASES, REQUESTS, TooManyError } from './admission.ts';
import { connectionOf, type Env, errorAnswer, handOver, json, send, watchCaller } from './answer.ts';
import { BODY_MAX_MS, bodyText } from './body.ts';
import { callId, logOf } from './call.ts';
import { addConstants } from './constants.ts';
import { clientOf, originOf, REQUEST_ID } from './identity.ts';
import { createInFlight, type InFlight } from './in-flight.ts';
import { createSeldom } from './seldom.ts';

const GATEWAY_TYPE = 'com.docker.network.gateway';
const RELEASE_ADDRESS = '/IpamDriver.ReleaseAddress';
const ENDPOINT_NAME = 'com.docker.network.endpoint.name';

/** The longest text of a request that is read. Names of containers are the longest. */
const TEXT_CHARACTERS_MAX = 500;
const words = v.pipe(
  v.string(),
  v.transform(given => cleaned(given, TEXT_CHARACTERS_MAX)),
);
const options = v.optional(v.nullable(v.record(v.string(), v.unknown())), null);
const text = v.optional(words, '');
const RequestPool = v.object({
  Pool: text,
  SubPool: text,
  V6: v.optional(v.boolean(), false),
  Options: options,
});
const RequestAddress = v.object({ PoolID: words, Address: text, Options: options });
const ReleasePool = v.object({ PoolID: words });
const ReleaseAddress = v.object({ PoolID: words, Address: words });

/** The parts that the driver calls. */
export interface Service {
  readonly pools: Pools;
  readonly allocator: Allocator;
  /** Resolves when the ledger is open. Throws store-down after the longest wait of a request, and after `withinMs`. */
  opened(caller?: AbortSignal, withinMs?: number): Promise<void>;
}

interface DriverOptions {
  /** Counts the handlers that run. */
  readonly inFlight?: InFlight;
  /** The longest time for the body of a request, in milliseconds. */
  readonly bodyMaxMs?: number;
  /** What clients with certificates may do. Default: use the ENIs of their instance. */
  readonly authorize?: Authorize;
  /** Undefined: nobody watches. */
  readonly observer?: Observer | undefined;
  /** For how long what is read now may have been there; see pulse.ts. */
  readonly inputAgeMs?: () => number;
}

export function createDriver(service: Service, log: Log, options: DriverOptions = {}): Hono<Env> {
  const { inFlight = createInFlight(), bodyMaxMs = BODY_MAX_MS, authorize = 'instance' } = options;
  const { inputAgeMs = () => 0, observer } = options;
  const networks = createAdmission(NETWORKS);
  const [requests, releases] = [createAdmission(REQUESTS), createAdmission(RELEASES)];
  const seldom = createSeldom(log);
  const app = new Hono<Env>();
  const bodyOf = <S extends v.GenericSchema>(c: Context<Env>, schema: S) =>
    bodyText(c, bodyMaxMs).then(body => parseBody(body, schema));
  /** A call that was read after a stop may have been sent long before. An agent has sent it to another server since. */
  const dated = (c: Context<Env>): Origin => {
    const from = originOf(c, authorize);
    const ageMs = inputAgeMs();
    if (ageMs === 0) return from;
    if (from.id === null) return { ...from, sentMsAgo: ageMs };
    throw new StoppedError(
      'unavailable',
      'the server was stopped for some time, and the call may be an old one',
      {
        hint: 'nothing was changed: send it again',
      },
    );
  };
  if (observer !== undefined) app.use((c, next) => watched(c, next, observer));
  app.use((_, next) => inFlight.track(next));
  const refusal = (c: Context<Env>, error: unknown, about: { eni?: EniId; ip?: Ipv4 } = {}) => {
    c.set('failure', error);
    return errorAnswer(c, error, isByAnybody(error) ? seldom : log, about, statusOf(c, error));
  };
  app.onError((error, c) => refusal(c, error));
  app.notFound(c => {
    const error = `no such endpoint: ${c.req.method} ${shown(c.req.path)}`;
    c.set('failure', new IpamError('bad-request', error));
    return c.json({ Error: error }, 404);
  });

  addConstants(app);

  app.post('/IpamDriver.RequestPool', async c => {
    const caller = watchCaller(c);
    const from = originOf(c, authorize);
    const asked = await bodyOf(c, RequestPool);
    if (asked.V6) throw new IpamError('bad-request', 'IPv6 is not served', { hint: 'leave out --ipv6' });
    const eniId = option(asked.Options, 'eni-id');
    if (eniId === null)
      throw new IpamError('bad-request', 'the network does not say which ENI it is for', {
        hint: 'add --ipam-opt eni-id=eni-… (mknet.sh does it)',
      });
    const leave = networks.enter({ eni: null, client: clientOf(c) });
    try {
      await service.opened(caller.signal, ledgerWaitMs(from));
      const { poolId, subnet, gateway } = await service.pools.request({
        eniId,
        instanceId: option(asked.Options, 'instance-id'),
        pool: asked.Pool,
        subPool: asked.SubPool,
        host: from.instance ?? connectionOf(c),
        caller: caller.signal,
        from,
      });
      // Engine 29 does not request a gateway for ipvlan and macvlan. Without this its containers have no default route.
      return json({
        PoolID: poolId,
        Pool: formatCidr(subnet),
        Data: { [GATEWAY_TYPE]: `${gateway}/${subnet.maskLength}` },
      });
    } finally {
      leave();
    }
  });

  app.post('/IpamDriver.ReleasePool', async c => {
    const from = originOf(c, authorize);
    const asked = await bodyOf(c, ReleasePool);
    // Docker also releases pools of networks that stay, and a network must be removable while the ledger is away.
    // Only the size of the warm pool depends on it.
    try {
      await service.pools.release(parsePoolId(asked.PoolID), from);
    } catch (error) {
      if (isError(error, 'denied')) throw error;
      logOf(c, seldom)('warn', 'pool release not noted', { error });
    }
    return json({});
  });

  app.post('/IpamDriver.RequestAddress', async c => {
    const caller = watchCaller(c);
    const from = dated(c);
    const asked = await bodyOf(c, RequestAddress);
    const pool = parsePoolId(asked.PoolID);
    const named = asked.Address === '' ? null : parseIpv4(asked.Address, 'Address');
    const leave = requests.enter({ eni: pool.eni, client: clientOf(c) });
    try {
      await service.opened(caller.signal, ledgerWaitMs(from));
      if (option(asked.Options, 'RequestAddressType') === GATEWAY_TYPE)
        return await gatewayAnswer(service, pool, named, from);
      const holder = option(asked.Options, ENDPOINT_NAME);
      const told = logOf(c, log);
      const given = await service.allocator.request({
        pool,
        named,
        holder,
        caller: caller.signal,
        from,
        log: told,
        call: callId(c),
      });
      const { row, home, isRepeated, isStale } = given;
      const body = { Address: `${row.ip}/${home.subnet.cidr.maskLength}`, Data: {} };
      // Reads from the kernel once more: the caller may have gone before its connection was accepted.
      await turn();
      const undo = async () => {
        if (!isRepeated) await service.allocator.undo(row, told);
      };
      return await handOver(c, caller, body, { undo, isStale });
    } finally {
      leave();
    }
  });

  app.post(RELEASE_ADDRESS, async c => {
    const from = dated(c);
    const asked = await bodyOf(c, ReleaseAddress);
    const pool = parsePoolId(asked.PoolID);
    const ip = parseIpv4(asked.Address, 'Address');
    let leave = () => {};
    try {
      leave = releases.enter({ eni: pool.eni, client: clientOf(c) });
      const client = { from, isLate: () => false, log: logOf(c, log), call: callId(c) };
      if (from === ANYBODY) await service.allocator.release(pool, ip, () => service.opened(), client);
      else await releaseFor(c, service, pool, ip, client);
    } catch (error) {
      // Docker sends a release once, so an operator has to know which address stays held.
      return refusal(c, error, { eni: pool.eni, ip });
    } finally {
      leave();
    }
    return send(c, {});
  });
  return app;
}

/** Tells the observer how long the call took and how it ended. */
async function watched(c: Context<Env>, next: () => Promise<void>, observer: Observer): Promise<void> {
  const startedAt = performance.now();
  await next(); // it does not throw: errors are answered
  const { failure } = c.var;
  const result = failure === undefined ? 'ok' : failure instanceof IpamError ? failure.code : 'internal';
  observer.answered(c.req.path, result, performance.now() - startedAt);
}

class StoppedError extends IpamError {}

/** Whether any client may cause the refusal, as often as he likes. */
const isByAnybody = (error: unknown): boolean =>
  error instanceof TooManyError || error instanceof StoppedError || isError(error, 'denied', 'bad-request');

/** Under a status of failure an agent asks another server, and this one again. A request that is one too many is told to
 *  Docker at once; a release is not, since Docker sends it once. */
function statusOf(c: Context<Env>, error: unknown): number {
  if (c.req.header(REQUEST_ID) === undefined) return 200;
  const isOfOthers = error instanceof StoppedError || isError(error, 'store-down');
  return isOfOthers || (error instanceof TooManyError && c.req.path === RELEASE_ADDRESS) ? 503 : 200;
}

/** Makes the release of a client with a certificate, or of an agent. Reads from the kernel once more: a server that went
 *  on after a stop finds the call and the end of its connection. */
async function releaseFor(
  c: Context<Env>,
  service: Service,
  pool: Pool,
  ip: Ipv4,
  client: Client,
): Promise<void> {
  const caller = watchCaller(c);
  let isLate = false;
  const opened = async () => {
    await turn();
    isLate = caller.isGone();
    await service.opened(undefined, ledgerWaitMs(client.from));
  };
  await service.allocator.release(pool, ip, opened, { ...client, isLate: () => isLate });
}

async function gatewayAnswer(
  { pools }: Service,
  pool: Pool,
  named: Ipv4 | null,
  from: Origin,
): Promise<Response> {
  const { gateway, subnet } = await pools.gateway(pool, named, from);
  return json({ Address: `${gateway}/${subnet.maskLength}`, Data: {} });
}

const option = (options: Record<string, unknown> | null, name: string): string | null => {
  const value = options?.[name];
  return typeof value === 'string' && value !== '' ? cleaned(value, TEXT_CHARACTERS_MAX) : null;
};

/** Parses the body as JSON, whatever its Content-Type: dockerd sends none. After a broken connection dockerd
 *  repeats a request with an empty body and takes the response for that to the first one. So an empty body is an
 *  error and changes nothing. */
function parseBody<S extends v.GenericSchema>(body: string, schema: S): v.InferOutput<S> {
  if (body.trim() === '')
    throw new IpamError(
      'bad-request',
      'the request came without a body, as dockerd repeats it after a broken connection',
      {
        hint: 'nothing was changed: do it again',
      },
    );
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    throw new IpamError('bad-request', 'the body is not JSON', { hint: 'nothing was changed' });
  }
  const result = v.safeParse(schema, parsed);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw new IpamError(
    'bad-request',
    `the body is not a request: ${v.getDotPath(issue) ?? 'it'}: ${shown(issue.message)}`,
    {
      hint: 'nothing was changed',
    },
  );
}
