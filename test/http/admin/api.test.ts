// Goal: the API answers as it is described, refuses with one line, and sends what moves. Method: the app on a ledger in
// memory; each answer is held against its schema in the description.
import { parseCidr } from '../../../src/domain/address.ts';
import { IpamError } from '../../../src/domain/error.ts';
import { createApi } from '../../../src/http/admin/api.ts';
import { createMemoryStore } from '../../../src/store/memory.ts';
import type { Store } from '../../../src/store/store.ts';
import { createLive, type Live, READERS_MAX } from '../../../src/views/live/live.ts';
import { createRecent } from '../../../src/views/live/recent.ts';
import { createViews } from '../../../src/views/views.ts';
import { eniWith, makeReady, newRows } from '../../kit/ledger.ts';
import { ENI, ip, range, SUBNET } from '../../kit/rows.ts';
import { assert, suite } from '../../kit/uvu.ts';

interface Context {
  store: Store;
  live: Live;
  logged: string[];
  ask(path: string, headers?: Record<string, string>, method?: string): Promise<Response>;
}
const test = suite<Context>('the API');
test.before.each(async context => {
  const store = createMemoryStore();
  const clock = () => performance.now();
  const rest = { cooldownMs: 30_000, quarantineMs: 600_000 };
  const live = createLive(rest, clock);
  const views = createViews({
    ...{ store, clock, recent: createRecent(clock), lastEvent: live.lastEvent },
    policy: { ...rest, callDeadlineMs: 20_000, graceMs: 930_000, warmMin: 0, warmMax: 0 },
    server: { id: 'server-1', version: '1.2.3', runtime: 'node 24' },
  });
  const logged: string[] = [];
  const app = createApi(views, live, '1.2.3', (_, message) => logged.push(message));
  const ask = async (path: string, headers = {}, method = 'GET') =>
    await app.fetch(new Request(`http://127.0.0.1/api/v1${path}`, { headers, method }), {});
  Object.assign(context, { store, live, logged, ask });
  await store.saveSubnet({ id: SUBNET, vpc: 'vpc-0a', cidr: parseCidr('10.0.1.0/24') });
  await store.saveEnis([eniWith()]);
  await store.add(newRows(6, 7));
  await makeReady(store, 6);
});
test.after.each(({ live }) => live.close());

const PATHS = ['/overview', `/subnets/${SUBNET}`, `/enis/${ENI}`, `/addresses/${ip(6)}`, '/hosts', '/health'];

test('each view: is answered, and described', async ({ ask }) => {
  const paths = [...PATHS, `/search?q=${ip(6)}`];
  for (const path of paths) {
    const answer = await ask(path);
    assert.is(answer.status, 200, path);
    assert.is(typeof (await answer.json()), 'object');
  }
  const described = (await (await ask('/openapi.json')).json()) as {
    paths: object;
    info: { version: string };
  };
  assert.is(described.info.version, '1.2.3');
  assert.equal(Object.keys(described.paths).sort(), [
    '/api/v1/addresses/{ip}',
    '/api/v1/enis/{id}',
    '/api/v1/events',
    '/api/v1/health',
    '/api/v1/hosts',
    '/api/v1/overview',
    '/api/v1/search',
    '/api/v1/subnets/{id}',
  ]);
  assert.match(JSON.stringify(described), /"restsUntil"/);
});

/** A part of the description in OpenAPI. */
interface Described {
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Described>>;
  readonly items?: Described;
  readonly anyOf?: readonly Described[];
}
interface Route {
  readonly summary?: string;
  readonly parameters?: readonly { name: string; description?: string }[];
  readonly responses: Readonly<Record<string, { content: Record<string, { schema: Described }> }>>;
}

/** The paths of the properties under `schema` that have no description. */
const undescribed = ({ properties = {}, items, anyOf = [] }: Described, at: string): string[] => [
  ...Object.entries(properties).flatMap(([name, property]) => [
    ...(property.description ? [] : [`${at}.${name}`]),
    ...undescribed(property, `${at}.${name}`),
  ]),
  ...(items === undefined ? [] : undescribed(items, `${at}[]`)),
  ...anyOf.flatMap(one => undescribed(one, at)),
];

const routesOf = async (ask: Context['ask']): Promise<[path: string, route: Route][]> => {
  const { paths } = (await (await ask('/openapi.json')).json()) as {
    paths: Record<string, { get: Route }>;
  };
  return Object.entries(paths).map(([path, { get }]) => [path, get]);
};

test('the description: says what each property and parameter means, and how each route fails', async ({
  ask,
}) => {
  let count = 0;
  for (const [path, { summary, parameters = [], responses }] of await routesOf(ask)) {
    assert.ok(summary, path);
    for (const { name, description } of parameters) assert.ok(description, `${path}: ${name}`);
    for (const [status, { content }] of Object.entries(responses))
      for (const { schema } of Object.values(content)) {
        assert.ok(schema.properties, `${path} ${status} has no properties`);
        count += Object.keys(schema.properties ?? {}).length;
        assert.equal(undescribed(schema, `${path} ${status}`), []);
      }
    const fails = Object.keys(responses).slice(1);
    const expected = [
      ...(parameters.length > 0 ? ['400'] : []),
      '403',
      ...(path.includes('{') ? ['404'] : []),
    ];
    assert.equal(fails, [...expected, '500', '503'], path);
  }
  assert.ok(count > 100, `${count} properties`);
});

const SECRET = 'hunter2';
const wrong: [path: string, status: number, says: RegExp][] = [
  ['/nothing', 404, /no such path/],
  ['/enis/eni-0123abcd', 404, /the ledger does not have it/],
  [`/enis/${SECRET}`, 400, /is not an id of the form eni-/],
  [`/subnets/${SUBNET}?block=${SECRET}`, 400, /is not an IPv4 CIDR/],
  ['/search', 400, /a parameter is wrong: .*"q"/],
  [`/search?q=${SECRET.repeat(50)}`, 400, /a parameter is wrong: Invalid length/],
];
for (const [path, status, says] of wrong)
  test(`${path.slice(0, 40)}: is ${status} with one line`, async ({ ask }) => {
    const answer = await ask(path);
    const body = (await answer.json()) as { error: string; hint: string };
    assert.is(answer.status, status);
    assert.equal(Object.keys(body), ['error', 'hint']);
    assert.match(body.error, says);
    assert.not.match(body.error, '\n');
    assert.ok(JSON.stringify(body).length < 400);
  });

test('a ledger that is away: is 503 with its reason, a bug is 500 and says nothing', async ({
  store,
  ask,
  logged,
}) => {
  const fail = (error: Error) => Object.assign(store, { eni: () => Promise.reject(error) });
  fail(new IpamError('store-down', 'the store is away', { hint: 'wait' }));
  const away = await ask(`/enis/${ENI}`);
  assert.equal([away.status, await away.json()], [503, { error: 'the store is away', hint: 'wait' }]);
  fail(new Error(`SELECT ${SECRET}`));
  const bug = await ask(`/enis/${ENI}`);
  assert.equal(
    [bug.status, await bug.json()],
    [500, { error: 'internal error', hint: 'see the log of the server' }],
  );
  assert.equal(logged, ['API request failed']);
});

test('events: are sent, and go on after the id that the client has', async ({ store, live, ask }) => {
  const { lastEvent } = (await (await ask('/overview')).json()) as { lastEvent: string };
  live.publish((await store.get(SUBNET, [ip(6)])).rows);
  for (const answer of [
    await ask(`/events?after=${lastEvent}`),
    await ask('/events?after=x', { 'last-event-id': lastEvent }),
  ]) {
    assert.is(answer.headers.get('content-type'), 'text/event-stream');
    const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
    assert.match((await reader?.read())?.value ?? '', /^retry: 2000\nid: /);
    assert.match(
      (await reader?.read())?.value ?? '',
      /^id: .*\nevent: moved\ndata: \{"cells":\[\{.*"ready".*\}\]\}\n\n$/,
    );
    await reader?.cancel();
  }
  assert.is(live.readers(), 0);
});

test('one client too many: is told so, and a HEAD takes no place', async ({ live, ask }) => {
  const streams = await Promise.all(range(READERS_MAX).map(() => ask('/events')));
  const refused = await ask('/events');
  assert.is(refused.status, 503);
  assert.match(((await refused.json()) as { error: string }).error, /100 clients look already/);
  await streams[0]?.body?.cancel();
  assert.is((await ask('/events', {}, 'HEAD')).status, 200);
  assert.is(live.readers(), READERS_MAX - 1);
});
test.run();
