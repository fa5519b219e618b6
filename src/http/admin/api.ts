/** The API of the admin listener: what the pages show, as JSON, and its description in OpenAPI. */
import type { HttpBindings } from '@hono/node-server';
import { type Context, Hono } from 'hono';
import { describeRoute, openAPIRouteHandler, resolver, validator } from 'hono-openapi';
import * as v from 'valibot';
import { IpamError } from '../../domain/error.ts';
import type { Log } from '../../domain/log.ts';
import { AddressView } from '../../views/address.ts';
import { EniView } from '../../views/eni.ts';
import { HealthView } from '../../views/health.ts';
import { HostsView } from '../../views/hosts.ts';
import { MovedEvent } from '../../views/live/events.ts';
import { type Live, READERS_MAX } from '../../views/live/live.ts';
import { Overview } from '../../views/overview.ts';
import { SearchView } from '../../views/search.ts';
import { string } from '../../views/shapes.ts';
import { SubnetMap } from '../../views/subnet-map.ts';
import type { Views } from '../../views/views.ts';
import { answerRefusal, type Refusal } from './admin-guard.ts';
import { eventStream } from './event-stream.ts';

/** Of a parameter. */
const TEXT_MAX = 200;
const parameter = (meaning: string) => v.pipe(v.string(), v.maxLength(TEXT_MAX), v.description(meaning));
const optional = (meaning: string) => v.optional(parameter(meaning));

const Failure = v.object({
  error: string('What is wrong, in one line.'),
  hint: string('What to do; may be empty.'),
});
/** What any route may answer, beside what it is asked for. */
const FAILURES = {
  400: 'A parameter is wrong.',
  403: 'Who asks is not let in: a page of another site, or a Docker host.',
  404: 'The ledger does not have it.',
  500: 'A bug; the log of the server shows it.',
  503: 'The ledger is away.',
} as const;
type FailureStatus = keyof typeof FAILURES;

const failures = (statuses: readonly FailureStatus[], more: Partial<Record<FailureStatus, string>> = {}) =>
  Object.fromEntries(
    statuses.map(status => [
      status,
      {
        description: more[status] ?? FAILURES[status],
        content: { 'application/json': { schema: resolver(Failure) } },
      },
    ]),
  );
/** Without parameters. */
const PLAIN = [403, 500, 503] as const;
const WITH_QUERY = [400, ...PLAIN] as const;
const OF_ONE = [400, 403, 404, 500, 503] as const;

const says = (summary: string, schema: v.GenericSchema, statuses: readonly FailureStatus[]) =>
  describeRoute({
    summary,
    responses: {
      200: { description: summary, content: { 'application/json': { schema: resolver(schema) } } },
      ...failures(statuses),
    },
  });

type Checked = { success: true } | { success: false; error: readonly { message: string }[] };
/** The library's own answer repeats what was sent. */
const refuseWrong = (result: Checked, c: Context): Response | undefined =>
  result.success
    ? undefined
    : answerRefusal(c, {
        status: 400,
        error: `a parameter is wrong: ${result.error[0]?.message}`,
        hint: 'see /api/v1/openapi.json',
      });
const asked = <const T extends 'query' | 'param', S extends v.GenericSchema>(from: T, schema: S) =>
  validator(from, schema, (result, c) => refuseWrong(result as Checked, c as Context));

const answer = (c: Context, view: object | null): Response =>
  view === null
    ? answerRefusal(c, { status: 404, error: 'the ledger does not have it', hint: 'see /api/v1/search?q=…' })
    : c.json(view);

/** `version`: of the program. */
export function createApi(
  views: Views,
  live: Live,
  version: string,
  log: Log,
): Hono<{ Bindings: HttpBindings }> {
  const app = new Hono<{ Bindings: HttpBindings }>().basePath('/api/v1');
  app.onError((error, c) => {
    const refusal = refusalFor(error);
    if (refusal.status === 500) log('error', 'API request failed', { path: c.req.path, error });
    return answerRefusal(c, refusal);
  });
  app.notFound(c =>
    answerRefusal(c, { status: 404, error: 'no such path', hint: 'see /api/v1/openapi.json' }),
  );

  app.get('/overview', says('What is wrong, and how full the subnets are', Overview, PLAIN), async c =>
    answer(c, await views.overview()),
  );
  app.get(
    '/subnets/:id',
    says('The map of a subnet: cells of a block, or bars of a larger subnet', SubnetMap, OF_ONE),
    asked('param', v.object({ id: parameter('The id of the subnet.') })),
    asked(
      'query',
      v.object({
        block: optional('A part of it as a CIDR, at most a /24. A larger subnet has no cells without it.'),
      }),
    ),
    async c => answer(c, await views.subnet(c.req.valid('param').id, c.req.valid('query').block ?? null)),
  );
  app.get(
    '/enis/:id',
    says('An ENI, its pool and its addresses', EniView, OF_ONE),
    asked('param', v.object({ id: parameter('The id of the ENI.') })),
    async c => answer(c, await views.eni(c.req.valid('param').id)),
  );
  app.get(
    '/addresses/:ip',
    says('An address, who held it, and the EC2 calls that named it', AddressView, OF_ONE),
    asked('param', v.object({ ip: parameter('The IPv4 address.') })),
    asked(
      'query',
      v.object({ subnet: optional('The id of its subnet; needed where several subnets have the address.') }),
    ),
    async c => answer(c, await views.address(c.req.valid('param').ip, c.req.valid('query').subnet ?? null)),
  );
  app.get('/hosts', says('Hosts, and tenants with their quotas', HostsView, PLAIN), async c =>
    answer(c, await views.hosts()),
  );
  app.get('/health', says('Servers, ledger and EC2', HealthView, PLAIN), async c =>
    answer(c, await views.health()),
  );
  app.get(
    '/search',
    says(
      'Addresses, ENIs, instances, subnets, and containers by a part of their names',
      SearchView,
      WITH_QUERY,
    ),
    asked('query', v.object({ q: parameter('What to look for; an id as a whole.') })),
    async c => answer(c, await views.search(c.req.valid('query').q)),
  );
  app.get(
    '/events',
    describeRoute({
      summary: 'What moves, as server-sent events',
      description:
        'Each event `moved` has the newest cells of addresses that moved. `reset`: some were missed. `beat`, each 15 s: the ' +
        'connection works. `Last-Event-ID`, or `after` with the `lastEvent` of a view, goes on after that event. ' +
        `${READERS_MAX} clients at a time are served.`,
      responses: {
        200: { description: 'Events.', content: { 'text/event-stream': { schema: resolver(MovedEvent) } } },
        ...failures(WITH_QUERY, { 503: 'Too many clients look already, or the server stops.' }),
      },
    }),
    asked(
      'query',
      v.object({
        after: optional('The id of the event after which to go on; absent: with what moves next.'),
        subnet: optional('The id of a subnet; absent: of all.'),
      }),
    ),
    c => {
      const { after = null, subnet = null } = c.req.valid('query');
      return eventStream(c, live, { after: c.req.header('last-event-id') ?? after, subnet });
    },
  );
  app.get(
    '/openapi.json',
    openAPIRouteHandler(app, {
      documentation: {
        info: {
          title: 'ec2-ipam',
          version,
          description:
            'What the ledger has. Times are milliseconds since 1970 by its clock. It changes nothing.',
        },
      },
    }),
  );
  return app;
}

const STATUSES: Readonly<Record<string, Refusal['status']>> = {
  'bad-request': 400,
  'store-down': 503,
  unavailable: 503,
};

function refusalFor(error: unknown): Refusal {
  const status = error instanceof IpamError ? STATUSES[error.code] : undefined;
  return error instanceof IpamError && status !== undefined
    ? { status, error: error.message, hint: error.hint }
    : { status: 500, error: 'internal error', hint: 'see the log of the server' };
}
