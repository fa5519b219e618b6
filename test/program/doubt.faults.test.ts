// Goal: the shipped program gives containers their addresses whatever becomes of one EC2 call. Method: the bundle before
// the simulator, with its own times, on an ENI with 50 places; the first assign hangs, is answered 500, is cut or comes
// late, and 46 further containers start, at once or one after another. Or it hangs for good, and the server is stopped.

import { sqliteLedger } from '../kit/databases/ledgers.ts';
import { byLength } from '../kit/length.ts';
import { type Simulator, startBundle, startSimulator } from '../kit/servers/bundle.ts';
import { type Answer, call } from '../kit/servers/checker.ts';
import type { Program } from '../kit/servers/process.ts';
import { eniName, worldOf } from '../kit/servers/site.ts';
import { assert, suite } from '../kit/uvu.ts';
import { pause } from '../kit/wait.ts';

const ASSIGN = 'AssignPrivateIpAddresses';
const ASSIGN_MS = 100;
const STARTS = 46;
const START_MS_MAX = 4_000;
/** With EC2 hung: the longest wait of a request, how much later it may be answered, and the longest that a call takes whose
 *  answer the server that stops waits for. */
const REQUEST_MS_MAX = 4_000;
const LATE_MS_MAX = 3_000;
const CALL_MS_MAX = 10_000;
const WORLD = worldOf(1, 50);
const ENI = eniName(0);
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

interface Stage {
  readonly ec2: Simulator;
  readonly server: Program;
  /** Starts a container; returns the answer and how long it took. */
  start(): Promise<{ answer: Answer; tookMs: number }>;
}
/** Runs `work` with the simulator and a server with its own times, which has a network on the ENI. */
async function onStage(flags: string, env: object, work: (stage: Stage) => Promise<void>): Promise<void> {
  const ec2 = await startSimulator(WORLD);
  const ledger = sqliteLedger();
  const args = `serve --listen http://127.0.0.1:0 --log-format json ${flags}`.split(' ');
  const server = await startBundle(args, { ...ec2.env, ...ledger.env, ...env }, 'ledger opened');
  try {
    const [, url = ''] = await server.says(/listening on (http:\/\/[\d.:]+)/);
    await call(url, 'IpamDriver.RequestPool', { Pool: '10.0.0.0/22', Options: { 'eni-id': ENI } });
    const start = async () => {
      const startedAt = performance.now();
      const answer = await call(url, 'IpamDriver.RequestAddress', { PoolID: ENI, Address: '', Options: {} });
      return { answer, tookMs: performance.now() - startedAt };
    };
    await work({ ec2, server, start });
  } finally {
    await server.kill9();
    await ec2.stop();
    await ledger.close();
  }
}

for (const [i, [why, fault]] of FAULTS.entries())
  for (const how of byLength<readonly (typeof HOW)[number][]>({
    full: HOW,
    short: [HOW[i % 2] ?? HOW[0]],
    leftOut: 'for each call in doubt one of: starts at once, starts one after another',
  }))
    doubt(`${why}: 46 starts ${how}, none refused, no duplicate, none slower than 4 s`, () =>
      onStage('--ec2-share 100%', {}, async ({ ec2, start }) => {
        await ec2.tell('DELETE', 'faults');
        await ec2.tell('POST', 'faults', { action: ASSIGN, times: 1, ...fault });
        await ec2.tell('POST', 'faults', { kind: 'latency', ms: ASSIGN_MS, action: ASSIGN });
        const first = start();
        if (how === 'one after another') await first;
        const started: (typeof first)[] = [];
        for (let n = 0; n < STARTS; n++) {
          started.push(start());
          if (how === 'one after another') await started.at(-1);
        }
        const ended = await Promise.all([first, ...started]);
        const there = await ec2.secondaries(ENI);
        const longestMs = Math.max(...ended.map(({ tookMs }) => tookMs));
        const assigns = await ec2.calls(ASSIGN);
        console.log(`  ${why}, ${how}: longest ${Math.round(longestMs)} ms, ${assigns} assigns`);
        const given = ended.map(({ answer }) => {
          assert.is(answer.kind, 'answered', JSON.stringify(answer));
          return answer.kind === 'answered' ? (answer.address.split('/')[0] ?? '') : '';
        });
        assert.is(new Set(given).size, STARTS + 1, 'no address is given twice');
        for (const ip of given) assert.ok(there.includes(ip), `${ip} is not on the ENI`);
        assert.ok(longestMs <= START_MS_MAX, `${longestMs} ms`);
      }),
    );

doubt('EC2 hangs and starts keep coming: each is told so in its time, and SIGTERM ends it in its own', () =>
  onStage(
    '--warm-min 0 --warm-max 0',
    { EC2_IPAM_REQUEST_TIMEOUT: `${REQUEST_MS_MAX}ms` },
    async ({ ec2, server, start }) => {
      await ec2.tell('POST', 'faults', { action: ASSIGN, kind: 'hang' });
      const starts: ReturnType<typeof start>[] = [];
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
    },
  ),
);
doubt.run();
