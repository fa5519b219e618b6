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
import { SubnetMap } from '../../views/subnet-map.ts';
import type { Views } from '../../views/views.ts';
import { answerRefusal, type Refusal } from './admin-guard.ts';
import { eventStream } from './event-stream.ts';

/** Of a parameter. */
const TEXT_MAX = 200;
const text = v.pipe(v.string(), v.maxLength(TEXT_MAX));
const id = v.object({ id: text });

const Failure = v.object({ error: v.string(), hint: v.string() });
const failures = Object.fromEntries(
  [
    ['400', 'A parameter is wrong.'],
    ['404', 'The ledger does not have it.'],
    ['503', 'The ledger is away.'],
  ].map(([status, description]) => [
    status,
    { description, content: { 'application/json': { schema: resolver(Failure) } } },
  ]),
);

const says = (summary: string, schema: v.GenericSchema) =>
  describeRoute({
    summary,
    responses: {
      200: { description: summary, content: { 'application/json': { schema: resolver(schema) } } },
      ...failures,
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

  app.get('/overview', says('What is wrong, and how full the subnets are', Overview), async c =>
    answer(c, await views.overview()),
  );
  app.get(
    '/subnets/:id',
    says('The map of a subnet: cells of a block, or bars of a larger subnet', SubnetMap),
    asked('param', id),
    asked('query', v.object({ block: v.optional(text) })),
    async c => answer(c, await views.subnet(c.req.valid('param').id, c.req.valid('query').block ?? null)),
  );
  app.get('/enis/:id', says('An ENI, its pool and its addresses', EniView), asked('param', id), async c =>
    answer(c, await views.eni(c.req.valid('param').id)),
  );
  app.get(
    '/addresses/:ip',
    says('An address, who held it, and the EC2 calls that named it', AddressView),
    asked('param', v.object({ ip: text })),
    asked('query', v.object({ subnet: v.optional(text) })),
    async c => answer(c, await views.address(c.req.valid('param').ip, c.req.valid('query').subnet ?? null)),
  );
  app.get('/hosts', says('Hosts, and tenants with their quotas', HostsView), async c =>
    answer(c, await views.hosts()),
  );
  app.get('/health', says('Servers, ledger and EC2', HealthView), async c => answer(c, await views.health()));
  app.get(
    '/search',
    says('Addresses, ENIs, instances, subnets, and containers by a part of their names', SearchView),
    asked('query', v.object({ q: text })),
    async c => answer(c, await views.search(c.req.valid('query').q)),
  );
  app.get(
    '/events',
    describeRoute({
      summary: 'What moves, as server-sent events',
      description:
        'Each event `moved` has the newest cells of addresses that moved. `reset`: some were missed. `Last-Event-ID`, or ' +
        `\`after\` with the \`lastEvent\` of a view, goes on after that event. ${READERS_MAX} clients at a time are served.`,
      responses: {
        200: { description: 'Events.', content: { 'text/event-stream': { schema: resolver(MovedEvent) } } },
        ...failures,
      },
    }),
    asked('query', v.object({ after: v.optional(text), subnet: v.optional(text) })),
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
