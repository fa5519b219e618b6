// Goal: probes say whether the process and its ledger work, and never load the store. Method: the app of the admin
// listener with a store and a clock that the test moves.
import { IpamError } from '../../../src/domain/error.ts';
import { createAdminApp, createReadyCheck } from '../../../src/http/admin/admin.ts';
import { assert, suite } from '../../kit/uvu.ts';

const AWAY = new IpamError('store-down', 'the store is away', { hint: 'wait' });

interface Context {
  /** What the store answers; a promise that never ends: nothing. */
  answer: () => Promise<string | null>;
  asked: number;
  isOpen: boolean;
  now: number;
  /** Ends the waits that are under way. */
  waits: (() => void)[];
  probe: (path?: string, method?: string) => Promise<{ status: number; text: string }>;
}
const probes = suite<Context>('probes of a server');
probes.before.each(context => {
  Object.assign(context, { answer: async () => null, asked: 0, isOpen: true, now: 0, waits: [] });
  const ready = createReadyCheck({
    store: {
      outdated() {
        context.asked++;
        return context.answer();
      },
    },
    isOpen: () => context.isOpen,
    clock: () => context.now,
    ec2: () => 'ec2-throttled',
    wait: () => new Promise(resolve => context.waits.push(resolve)),
  });
  const metrics = { contentType: 'text/plain; version=0.0.4', text: async () => 'up 1\n' };
  const app = createAdminApp({
    kind: 'http',
    ready,
    metrics,
    api: async () => ({ fetch: () => new Response('api') }),
    pages: { fetch: async () => new Response('a page') },
  });
  context.probe = async (path = '/readyz', method = 'GET') => {
    const answer = await app.fetch(new Request(`http://127.0.0.1${path}`, { method }));
    return { status: answer.status, text: (await answer.text()).trim() };
  };
});

probes('the process: is well while the ledger is not open, and the store is not asked', async context => {
  context.isOpen = false;
  assert.equal(await context.probe('/healthz'), { status: 200, text: 'ok' });
  assert.equal(await context.probe(), {
    status: 503,
    text: '{"isReady":false,"store":"the ledger is not open yet","ec2":"ec2-throttled"}',
  });
  assert.is(context.asked, 0);
});

const IS_READY = { status: 200, text: '{"isReady":true,"store":"ok","ec2":"ec2-throttled"}' };

probes('the ledger: is not ready while its schema is another', async context => {
  context.answer = async () => 'the schema is old';
  assert.equal(await context.probe(), {
    status: 503,
    text: '{"isReady":false,"store":"the schema is old","ec2":"ec2-throttled"}',
  });
  context.now += 1000;
  context.answer = async () => null;
  assert.equal(await context.probe(), IS_READY);
});

probes('a newer server that migrates the ledger: ends no readiness of those beside it', async context => {
  assert.equal(await context.probe(), IS_READY);
  context.now += 1000;
  context.answer = async () => 'the schema is newer';
  assert.equal(await context.probe(), IS_READY);
  context.now += 1000;
  context.answer = () => Promise.reject(AWAY);
  assert.is((await context.probe()).status, 503);
});

probes('a store that is away: is told with its reason, an error of ours is not', async context => {
  context.answer = () => Promise.reject(AWAY);
  assert.match((await context.probe()).text, /"store":"the store is away; wait"/);
  context.now += 1000;
  context.answer = () => Promise.reject(new Error('secret'));
  assert.match((await context.probe()).text, /"store":"internal error"/);
});

probes('a hundred probes in a second: ask the store once', async context => {
  await Promise.all(Array.from({ length: 50 }, () => context.probe()));
  context.now += 999;
  await Promise.all(Array.from({ length: 50 }, () => context.probe()));
  assert.is(context.asked, 1);
  context.now += 1;
  await context.probe();
  assert.is(context.asked, 2);
});

probes('a store that does not answer: ends no probe, and is not asked again meanwhile', async context => {
  let end = (_: null) => {};
  context.answer = () => new Promise(resolve => (end = resolve));
  const [first, second] = [context.probe(), context.probe()];
  for (const tell of context.waits) tell();
  const late = {
    status: 503,
    text: '{"isReady":false,"store":"no answer within 2 s","ec2":"ec2-throttled"}',
  };
  assert.equal([await first, await second], [late, late]);
  context.now += 60_000;
  const third = context.probe();
  assert.is(context.asked, 1);
  end(null);
  assert.is((await third).status, 200);
});

probes('metrics: are given as text', async context => {
  assert.equal(await context.probe('/metrics'), { status: 200, text: 'up 1' });
});

probes('other paths: are those of pages; other methods: are refused', async context => {
  for (const path of ['/', '/readyz/', '/constructor', '/IpamDriver.RequestAddress'])
    assert.equal(await context.probe(path), { status: 200, text: 'a page' }, path);
  assert.is((await context.probe('/', 'POST')).status, 405);
  assert.is((await context.probe('/healthz', 'POST')).status, 405);
  assert.is((await context.probe('/healthz', 'HEAD')).status, 200);
});
probes.run();
