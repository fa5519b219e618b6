// Goal: the shipped program gives containers their addresses whatever becomes of one EC2 call. Method: the bundle before
// the simulator, with its own times, on an ENI with 50 places; the first assign hangs, is answered 500, is cut or comes
// late, and 46 further containers start, at once or one after another. Or it hangs for good, and the server is stopped.

import { sqliteLedger } from '../kit/databases/ledgers.ts';
import { byLength } from '../kit/length.ts';
import { startBundle, startSimulator } from '../kit/servers/bundle.ts';
import { type Answer, call, pause } from '../kit/servers/checker.ts';
import { assert, suite } from '../kit/uvu.ts';

const ENI = 'eni-0a1b2c3d4e5f60001';
const INSTANCE = 'i-0a1b2c3d4e5f60001';
const ASSIGN = 'AssignPrivateIpAddresses';
const ASSIGN_MS = 100;
const STARTS = 46;
const START_MS_MAX = 4_000;
/** With EC2 hung: the longest wait of a request, how much later it may be answered, and the longest that a call takes whose
 *  answer the server that stops waits for. */
const REQUEST_MS_MAX = 4_000;
const LATE_MS_MAX = 3_000;
const CALL_MS_MAX = 10_000;
const WORLD = {
  subnets: [{ id: 'subnet-0a1b2c3d4e5f60001', cidr: '10.0.1.0/24' }],
  instances: [{ id: INSTANCE, type: 'm5.4xlarge' }],
  instanceTypes: { 'm5.4xlarge': { enis: 8, addressesPerEni: 50 } },
  enis: [
    {
      id: ENI,
      subnet: 'subnet-0a1b2c3d4e5f60001',
      primary: '10.0.1.10',
      attachment: { instance: INSTANCE, deviceIndex: 1 },
    },
  ],
};
const INTERNAL = { code: 'InternalError', message: 'An internal error has occurred' };
const FAULTS: readonly [why: string, fault: object][] = [
  ['hung, not applied', { kind: 'hang' }],
  ['hung, applied', { kind: 'latency', ms: 60_000 }],
  ['hung, applied after 20 s', { kind: 'applyLate', ms: 20_000 }],
  ['500, not applied', { kind: 'error', ...INTERNAL }],
  ['500, applied', { kind: 'lostReply', ...INTERNAL }],
  ['cut, applied', { kind: 'lostReply' }],
];

const HOW = ['at once', 'one after another'] as const;
const doubt = suite('one call in doubt');
for (const [i, [why, fault]] of FAULTS.entries())
  for (const how of byLength<readonly (typeof HOW)[number][]>({
    full: HOW,
    short: [HOW[i % 2] ?? HOW[0]],
    leftOut: 'for each call in doubt one of: starts at once, starts one after another',
  }))
    doubt(`${why}: 46 starts ${how}, none refused, no duplicate, none slower than 4 s`, async () => {
      const ec2 = await startSimulator(WORLD);
      const ledger = sqliteLedger();
      const args = ['serve', '--listen', 'http://127.0.0.1:0', '--log-format', 'json', '--ec2-share', '100%'];
      const server = await startBundle(args, { ...ec2.env, ...ledger.env }, 'ledger opened');
      try {
        const [, url = ''] = /listening on (http:\/\/[\d.:]+)/.exec(server.output()) ?? [];
        await call(url, 'IpamDriver.RequestPool', {
          Pool: '10.0.1.0/24',
          Options: { 'eni-id': ENI },
        });
        await ec2.tell('DELETE', 'faults');
        await ec2.tell('POST', 'faults', { action: ASSIGN, times: 1, ...fault });
        await ec2.tell('POST', 'faults', { kind: 'latency', ms: ASSIGN_MS, action: ASSIGN });
        const took: number[] = [];
        const given: string[] = [];
        const start = async () => {
          const startedAt = performance.now();
          const answer = await call(url, 'IpamDriver.RequestAddress', {
            PoolID: ENI,
            Address: '',
            Options: {},
          });
          took.push(performance.now() - startedAt);
          assert.is(answer.kind, 'answered', JSON.stringify(answer));
          if (answer.kind === 'answered') given.push(answer.address.split('/')[0] ?? '');
        };
        const first = start();
        if (how === 'one after another') await first;
        if (how === 'at once') await Promise.all(Array.from({ length: STARTS }, start));
        else for (let i = 0; i < STARTS; i++) await start();
        await first;
        const there = await ec2.secondaries(ENI);
        const [longest = 0] = took.sort((a, b) => b - a);
        console.log(
          `  ${why}, ${how}: longest ${Math.round(longest)} ms, ${await ec2.calls(ASSIGN)} assigns`,
        );
        assert.is(new Set(given).size, STARTS + 1, 'no address is given twice');
        for (const ip of given) assert.ok(there.includes(ip), `${ip} is not on the ENI`);
        assert.ok(longest <= START_MS_MAX, `${longest} ms`);
      } finally {
        await server.kill9();
        await ec2.stop();
        await ledger.close();
      }
    });
doubt(
  'EC2 hangs and starts keep coming: each is told so in its time, and SIGTERM ends it in its own',
  async () => {
    const ec2 = await startSimulator(WORLD);
    const ledger = sqliteLedger();
    const times = { EC2_IPAM_REQUEST_TIMEOUT: `${REQUEST_MS_MAX}ms` };
    const args = [
      'serve',
      '--listen',
      'http://127.0.0.1:0',
      '--log-format',
      'json',
      '--warm-min',
      '0',
      '--warm-max',
      '0',
    ];
    const server = await startBundle(args, { ...ec2.env, ...ledger.env, ...times }, 'ledger opened');
    try {
      const [, url = ''] = /listening on (http:\/\/[\d.:]+)/.exec(server.output()) ?? [];
      await call(url, 'IpamDriver.RequestPool', { Pool: '10.0.1.0/24', Options: { 'eni-id': ENI } });
      await ec2.tell('POST', 'faults', { action: ASSIGN, kind: 'hang' });
      const starts: Promise<{ answer: Answer; tookMs: number }>[] = [];
      const start = async () => {
        const startedAt = performance.now();
        const answer = await call(url, 'IpamDriver.RequestAddress', {
          PoolID: ENI,
          Address: '',
          Options: {},
        });
        return { answer, tookMs: performance.now() - startedAt };
      };
      for (let i = 0; i < 20; i++) {
        starts.push(start());
        await pause(300);
      }
      const stoppedAt = performance.now();
      assert.is(await server.stop(), 0);
      const stopMs = performance.now() - stoppedAt;
      const ended = await Promise.all(starts);
      const longestMs = Math.max(...ended.map(({ tookMs }) => tookMs));
      console.log(`  longest ${Math.round(longestMs)} ms, stopped in ${Math.round(stopMs)} ms`);
      for (const { answer } of ended) assert.match(JSON.stringify(answer), /EC2 has not answered/);
      assert.ok(longestMs <= REQUEST_MS_MAX + LATE_MS_MAX, `${longestMs} ms`);
      assert.ok(stopMs <= REQUEST_MS_MAX + LATE_MS_MAX + CALL_MS_MAX, `${stopMs} ms`);
    } finally {
      await server.kill9();
      await ec2.stop();
      await ledger.close();
    }
  },
);
doubt.run();
