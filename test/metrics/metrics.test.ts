// Goal: metrics say what a server does and what its ledger has, and never load the store. Method: a server in memory
// that tells them, and scrapes by a clock that the test moves.
import { IpamError } from '../../src/domain/error.ts';
import { close, compare } from '../../src/ipam/sync/reconcile.ts';
import { createMetrics } from '../../src/metrics/metrics.ts';
import { assert, suite } from '../kit/uvu.ts';
import { ENI_A, ENI_B, SUBNET } from '../kit/vpcs.ts';
import { type World, world } from '../kit/world.ts';

interface Context {
  w: World;
  now: number;
  metrics: ReturnType<typeof createMetrics>;
  /** The lines of a scrape that begin with the text. */
  scrape: (start: string) => Promise<string[]>;
}
const suiteOf = (name: string) => {
  const test = suite<Context>(name);
  test.before.each(context => {
    context.now = 0;
    const times = { callDeadlineMs: 20_000, intentGraceMs: 930_000 };
    const clocks = { clock: () => context.now, timeOfDay: () => 1_800_000_000_000 + context.now };
    context.metrics = createMetrics({
      ...times,
      ...clocks,
      version: '1.2.3',
      runtime: 'node 24',
      reconcileEveryMs: 90_000,
    });
    context.w = world({ observer: context.metrics.observer });
    const text = context.metrics.textOf(context.w.store, () => new Promise(() => {}));
    context.scrape = async start => {
      context.now += 60_000;
      return (await text()).split('\n').filter(line => line.startsWith(start));
    };
  });
  return test;
};

const told = suiteOf('what a server tells its metrics');
told('a cold start, a warm one and no early reuse: are counted', async ({ w, scrape }) => {
  await w.requests(ENI_A, 2);
  assert.equal(await scrape('ec2_ipam_warm'), ['ec2_ipam_warm_hits_total 1', 'ec2_ipam_warm_misses_total 1']);
  assert.equal(await scrape('ec2_ipam_early'), ['ec2_ipam_early_reuses_total 0']);
});

told('what a comparison finds, and an address that has not rested: are counted', async ({ w, scrape }) => {
  await w.request(ENI_A);
  w.putOn(ENI_B, '10.0.1.14');
  await close(w.context, await compare(w.context, SUBNET));
  assert.equal(await scrape('ec2_ipam_drift_total'), ['ec2_ipam_drift_total{kind="foreign"} 1']);
  const [row] = await w.requests(ENI_A, 7); // all that are left
  await w.release(ENI_A, row?.ip ?? '');
  await w.request(ENI_A);
  assert.equal(await scrape('ec2_ipam_early'), ['ec2_ipam_early_reuses_total 1']);
});

told('calls of Docker: by method and result, and what is no method as one', async ({ metrics, scrape }) => {
  metrics.observer.answered('/IpamDriver.RequestAddress', 'ok', 7000);
  metrics.observer.answered('/IpamDriver.RequestAddress', 'exhausted', 2);
  for (const path of ['/a', '/b', '/constructor']) metrics.observer.answered(path, 'ok', 1);
  assert.equal(await scrape('ec2_ipam_requests_total'), [
    'ec2_ipam_requests_total{method="RequestAddress",result="ok"} 1',
    'ec2_ipam_requests_total{method="RequestAddress",result="exhausted"} 1',
    'ec2_ipam_requests_total{method="other",result="ok"} 3',
  ]);
  const buckets = 'ec2_ipam_request_duration_seconds_bucket{le="5",method="RequestAddress"}';
  assert.equal(await scrape(buckets), [`${buckets} 1`]);
});

told('EC2: its requests, its last answer, and the tokens that are left now', async ({ metrics, scrape }) => {
  assert.is(metrics.ec2(), 'not asked yet');
  let left = 5;
  metrics.observer.tokens('AssignPrivateIpAddresses', () => left);
  metrics.observer.ec2Called('AssignPrivateIpAddresses', 'ec2-throttled', 30);
  assert.is(metrics.ec2(), 'ec2-throttled');
  const name = '{action="AssignPrivateIpAddresses"';
  assert.equal(await scrape('ec2_ipam_ec2_requests_total'), [
    `ec2_ipam_ec2_requests_total${name},result="ec2-throttled"} 1`,
  ]);
  metrics.observer.ec2Called('DescribeInstances', 'ok', 30);
  assert.equal(
    await scrape('ec2_ipam_ec2_requests_total{action="DescribeInstances"'),
    ['ec2-throttled"} 0', 'ok"} 1'].map(
      said => `ec2_ipam_ec2_requests_total{action="DescribeInstances",result="${said}`,
    ),
    'the first that is throttled is an increase',
  );
  left = -3;
  assert.equal(await scrape('ec2_ipam_ec2_tokens'), [`ec2_ipam_ec2_tokens${name}} -3`]);
});

told('a comparison with EC2: when it was, and what differed', async ({ w, metrics, scrape }) => {
  await w.request(ENI_A);
  metrics.observer.drifted('foreign');
  const comparedAt = async () => await scrape('ec2_ipam_last_reconcile');
  const at = (seconds: number) => [
    `ec2_ipam_last_reconcile_timestamp_seconds{subnet="${SUBNET}"} ${seconds}`,
  ];
  assert.equal([await comparedAt(), await comparedAt()], [at(1_800_000_000), at(1_800_000_000)]);
  assert.equal(await scrape('ec2_ipam_reconcile_interval'), ['ec2_ipam_reconcile_interval_seconds 90']);
  metrics.observer.reconciled(SUBNET);
  assert.equal([await comparedAt(), await comparedAt()], [at(1_800_000_180), at(1_800_000_180)]);
  assert.equal(await scrape('ec2_ipam_drift'), ['ec2_ipam_drift_total{kind="foreign"} 1']);
});
told.run();

const shown = suiteOf('what metrics show of the ledger');
shown('addresses: by subnet and status, and the version', async ({ w, scrape }) => {
  await w.request(ENI_A);
  const lines = (await scrape('ec2_ipam_addresses{')).join('\n');
  assert.match(lines, /status="allocated"\} 1$/m);
  assert.equal(await scrape('ec2_ipam_store_up'), ['ec2_ipam_store_up 1']);
  assert.equal(await scrape('ec2_ipam_build_info'), [
    'ec2_ipam_build_info{version="1.2.3",runtime="node 24"} 1',
  ]);
});

shown(
  'a status that no address has: is told as none, so that a full subnet is one',
  async ({ w, scrape }) => {
    const free = async () => await scrape(`ec2_ipam_addresses{subnet="${SUBNET}",status="free"}`);
    await w.request(ENI_A);
    assert.match((await free()).join(), /\} [1-9]/);
    const { rows } = await w.store.withStatus(SUBNET, ['free']);
    await w.store.move(rows.map(row => ({ row, move: 'hold', reservedFor: 'all' }) as const));
    assert.equal(await free(), [`ec2_ipam_addresses{subnet="${SUBNET}",status="free"} 0`]);
  },
);

shown('a store that is away: is told, and what it said before is not shown', async context => {
  const { w, metrics } = context;
  await w.request(ENI_A);
  let isAway = false;
  const store = {
    ...w.store,
    tally: async () => {
      if (isAway) throw new IpamError('store-down', 'away');
      return await w.store.tally();
    },
  };
  const text = metrics.textOf(store, () => new Promise(() => {}));
  const linesOf = async () =>
    (await text()).split('\n').filter(line => /^ec2_ipam_(addr|intent|old|store|with)/.test(line));
  assert.ok((await linesOf()).length > 4);
  context.now += 5000;
  isAway = true;
  assert.equal(await linesOf(), ['ec2_ipam_store_up 0']);
});

shown('a store that does not answer: ends no scrape, and is asked once', async context => {
  let asked = 0;
  const tally = () => new Promise<never>(() => void asked++);
  const text = context.metrics.textOf({ ...context.w.store, tally }, async () => {});
  for (let scrape = 0; scrape < 10; scrape++) {
    assert.match(await text(), /^ec2_ipam_store_up 0$/m);
    context.now += 60_000;
  }
  assert.is(asked, 1);
});

shown('a hundred scrapes in five seconds: read the ledger once', async context => {
  let asked = 0;
  const tally = async () => {
    asked++;
    return await context.w.store.tally();
  };
  const text = context.metrics.textOf({ ...context.w.store, tally }, () => new Promise(() => {}));
  for (let scrape = 0; scrape < 100; scrape++) {
    await Promise.all([text(), text()]);
    context.now += 49;
  }
  assert.is(asked, 1);
  context.now += 5000;
  await text();
  assert.is(asked, 2);
});
shown.run();
