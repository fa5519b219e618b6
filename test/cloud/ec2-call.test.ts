// Goal: a change is sent once and in time or not at all, a refusal is told from no answer, and Region and credentials are
// found. Method: the strict simulator over HTTP on loopback, with its faults; for what no EC2 sends, an answer made by
// hand.
import process from 'node:process';
import { setTimeout as wait } from 'node:timers/promises';
import type { Ec2Client } from '../../src/cloud/cloud.ts';
import type { Ec2Options } from '../../src/cloud/ec2-call.ts';
import { metadataAt, metadataDisabled } from '../../src/cloud/imds.ts';
import type { ErrorCode } from '../../src/domain/error.ts';
import { type Fault, METADATA } from '../../src/simulator/model/faults.ts';
import { failureOf } from '../kit/failures.ts';
import { assert } from '../kit/uvu.ts';
import { ASSIGN, ENI_A, ENI_B } from '../kit/vpcs.ts';
import {
  byHand,
  cloud,
  ec2Suite,
  freshTime,
  ips,
  LATER,
  refuseOnce,
  server,
  TIMEOUT_MS,
  vpc,
  xml,
} from './ec2-server.ts';

const ec2 = ec2Suite('ec2 call');

ec2('a lost reply, a hung call and a late one are unknown, never refused', async () => {
  vpc.faults.add({ kind: 'lostReply', times: 1 });
  await failureOf(cloud().assign(ENI_A, ips(20), LATER), 'ec2-unknown');
  vpc.faults.add({ kind: 'hang', times: 1 });
  const startedAt = performance.now();
  await failureOf(cloud().assign(ENI_A, ips(21), LATER), 'ec2-unknown');
  assert.ok(performance.now() - startedAt < 5 * TIMEOUT_MS, 'the timeout is of the request');
  vpc.faults.add({ kind: 'latency', ms: 20 * TIMEOUT_MS, times: 1 });
  await failureOf(cloud().unassign(ENI_A, ips(20), LATER), 'ec2-unknown');
  assert.is(vpc.calls.get(ASSIGN), 2);
});

/** The SDK's own agents hold 50 sockets. */
const HUNG = 60;
ec2('hung calls do not hold up others, however many', async () => {
  vpc.faults.add({ kind: 'hang', times: 2 * HUNG });
  const one = cloud({ requestTimeoutMs: 30_000 });
  for (let i = 0; i < HUNG; i++) {
    one.eni(ENI_A).catch(() => {});
    one.unassign(ENI_A, ips(20), LATER).catch(() => {});
  }
  const arrived = () => [...vpc.calls.values()].reduce((sum, calls) => sum + calls, 0);
  for (let looks = 0; arrived() < 2 * HUNG; looks++) {
    assert.ok(looks < 1000, `${arrived()} of ${2 * HUNG} calls arrived`);
    await wait(5);
  }
  assert.is((await one.eni(ENI_A)).id, ENI_A);
  await one.assign(ENI_A, ips(20), LATER);
});

const STALLED = () =>
  new Response(new ReadableStream({ start: stream => stream.enqueue(new TextEncoder().encode('<Assign')) }), {
    headers: { 'content-type': 'text/xml' },
  });
const refusing = (status: number, code: string) => () =>
  xml(
    `<Response><Errors><Error><Code>${code}</Code><Message>m</Message></Error></Errors></Response>`,
    status,
  );
const html = (status: number) => () =>
  new Response('<html><body><p>No.<br></body></html>', { status, headers: { 'content-type': 'text/html' } });
const answers: [what: string, code: ErrorCode, answer: () => Response][] = [
  ['an answer that stops in the middle', 'ec2-unknown', STALLED],
  ['status 500', 'ec2-unknown', refusing(500, 'InternalError')],
  ['status 503', 'ec2-unknown', refusing(503, 'Unavailable')],
  ['status 503 that says throttled', 'ec2-throttled', refusing(503, 'RequestLimitExceeded')],
  ['a code that nobody knows', 'ec2-refused', refusing(400, 'NeverHeardOfIt')],
  ["a proxy's page with status 403", 'ec2-unknown', html(403)],
  ["a proxy's page with status 502", 'ec2-unknown', html(502)],
  ["a proxy's page with status 200", 'ec2-unknown', html(200)],
  ['an empty answer with status 400', 'ec2-unknown', () => new Response('', { status: 400 })],
  ['an empty answer with status 404', 'ec2-unknown', () => new Response('', { status: 404 })],
];
for (const [what, code, answer] of answers)
  ec2(`${what} is ${code}`, async () => {
    byHand.answer = answer;
    await failureOf(cloud().assign(ENI_A, ips(20), LATER), code);
  });

ec2('an error of EC2 that is no refusal is quoted too', async () => {
  const says = ['InternalError', 'An internal error has occurred'] as const;
  byHand.answer = () =>
    new Response(
      `<Response><Errors><Error><Code>${says[0]}</Code><Message>${says[1]}</Message></Error></Errors></Response>`,
      { status: 500, headers: { 'content-type': 'text/xml', 'x-amzn-requestid': 'r-0a1' } },
    );
  const line = await failureOf(cloud().assign(ENI_A, ips(20), LATER), 'ec2-unknown');
  assert.match(
    line,
    /^EC2 failed: An internal error has occurred \(InternalError, request r-0a1\); the call may have been applied/,
  );
});

const success: [what: string, body: string | null, status?: number][] = [
  ["a proxy's page", '<html><body><p>Sign in.</p></body></html>'],
  ['an error of EC2', '<Response><Errors><Error><Code>InternalError</Code></Error></Errors></Response>'],
  ['nothing', ''],
  ['nothing, by status 204', null, 204],
];
for (const [what, body, status = 200] of success)
  ec2(`success that says ${what} is none: nothing is taken as done, as empty or as gone`, async () => {
    byHand.answer = () => new Response(body, { status, headers: { 'content-type': 'text/html' } });
    const one = cloud();
    const asked: (() => Promise<unknown>)[] = [
      () => one.unassign(ENI_B, ips(6), LATER),
      () => one.assign(ENI_A, ips(20), LATER),
      () => one.eni(ENI_A),
      () => one.enisById([ENI_A]),
      () => one.someEni({}),
    ];
    for (const ask of asked)
      assert.match(
        await failureOf(ask(), 'ec2-unknown'),
        /^EC2 gave no answer to \w+: what answered with HTTP status 20[04] is not EC2: "/,
      );
    byHand.answer = null;
    assert.equal((await one.eni(ENI_B)).secondaries, ips(6));
  });

ec2('a mutation is sent once, also when a connection that was in use before breaks under it', async () => {
  const one = cloud();
  await one.eni(ENI_A);
  await one.assign(ENI_A, ips(20), LATER);
  vpc.faults.add({ kind: 'lostReply', times: 1 });
  await failureOf(one.assign(ENI_A, ips(21), LATER), 'ec2-unknown');
  // A second sending would come at once, on a connection that stands before this read's answer.
  await one.eni(ENI_A);
  await one.unassign(ENI_A, ips(20), LATER);
  assert.is(vpc.calls.get(ASSIGN), 2);
});

ec2('where nothing listens, nothing was sent', async () => {
  server.close();
  const line = await failureOf(cloud().assign(ENI_A, ips(20), LATER), 'ec2-unreachable');
  assert.match(line, /^AssignPrivateIpAddresses was not sent: EC2 can't be reached: ECONNREFUSED/);
});

ec2('past its time a mutation is not sent', async () => {
  const late = cloud({ deadlineClock: () => 1000 });
  for (const asked of [() => late.assign(ENI_A, ips(20), 1000), () => late.unassign(ENI_B, ips(6), 1000)])
    assert.match(await failureOf(asked(), 'ec2-unreachable'), /^not sent: /);
  assert.is(vpc.calls.size, 0);
  await cloud({ deadlineClock: () => 999 }).assign(ENI_A, ips(20), 1000);
});

ec2("while our clock is ahead of EC2's nothing is changed, and reads go on", async () => {
  const lines: string[] = [];
  const one = cloud({ time: freshTime((level, message) => void lines.push(`${level} ${message}`)) });
  for (const aheadMs of [-10_000, -1_200_000]) {
    vpc.dayAheadMs = aheadMs;
    for (const asked of [() => one.assign(ENI_A, ips(20), LATER), () => one.unassign(ENI_B, ips(6), LATER)])
      assert.match(
        await failureOf(asked(), 'ec2-unreachable'),
        /^not sent: \w+: this machine's clock is \d+ s ahead of EC2's; set this machine's clock right/,
      );
    assert.is((await one.eni(ENI_A)).id, ENI_A);
  }
  assert.is(vpc.calls.get(ASSIGN) ?? 0, 0);
  assert.is(vpc.calls.get('UnassignPrivateIpAddresses') ?? 0, 0);
  assert.is(lines.length, 1, lines.join('; '));
  vpc.dayAheadMs = 0;
  await one.assign(ENI_A, ips(20), LATER); // it asks EC2 itself before it refuses
  assert.is(lines.length, 2, lines.join('; '));
});

ec2('a clock that is behind is no matter, however far', async () => {
  vpc.dayAheadMs = 1_200_000;
  const one = cloud({ time: freshTime() });
  await one.assign(ENI_A, ips(20), LATER);
  await one.unassign(ENI_A, ips(20), LATER);
});

ec2('credentials and date that EC2 calls expired are worth another try', async () => {
  const one = cloud();
  for (const code of ['ExpiredToken', 'RequestExpired']) {
    refuseOnce(code, 'Request has expired.');
    await failureOf(one.assign(ENI_A, ips(20), LATER), 'ec2-unreachable');
  }
  await one.assign(ENI_A, ips(20), LATER);
});

/** A client to whom nothing says who and where we are but the instance's metadata, served by the simulator. */
function onlyMetadata(options: Partial<Ec2Options> = {}): Ec2Client {
  for (const key of ['AWS_REGION', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']) delete process.env[key];
  process.env.AWS_CONFIG_FILE = process.env.AWS_SHARED_CREDENTIALS_FILE = '/nonexistent';
  process.env.AWS_EC2_METADATA_SERVICE_ENDPOINT = server.url;
  return cloud({ region: null, credentials: null, metadata: metadataAt(server.url), ...options });
}

ec2('credentials of a configuration file, which is frozen, are used', async () => {
  const credentials = Object.freeze({ accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'secret' });
  assert.is((await cloud({ credentials }).eni(ENI_A)).id, ENI_A);
});

ec2('region and credentials are found in the metadata of the instance', async () => {
  const here = onlyMetadata({ metadata: metadataDisabled });
  await here.assign(ENI_A, ips(20), LATER);
  assert.equal((await here.eni(ENI_A)).secondaries, ips(20));
});

/** Long enough for the SDK to give up, which it does after a second where it is not told otherwise. */
const LATE_MS = 1_300;
ec2('metadata that are late are waited for', async () => {
  const here = onlyMetadata();
  vpc.faults.add({ kind: 'latency', ms: LATE_MS, action: METADATA });
  assert.is((await here.eni(ENI_A)).id, ENI_A);
});

const broken: [what: string, fault: Fault, code: ErrorCode][] = [
  ['do not answer', { kind: 'hang' }, 'ec2-unreachable'],
  ['answer with an error', { kind: 'error', code: '500', message: 'no' }, 'ec2-unreachable'],
  ['are empty', { kind: 'error', code: '200', message: '' }, 'ec2-unreachable'],
  ['refuse their own tokens', { kind: 'error', code: '401', message: '' }, 'ec2-unreachable'],
  ['are turned off', { kind: 'error', code: '403', message: '' }, 'ec2-denied'],
  ['have no role', { kind: 'error', code: '404', message: '' }, 'ec2-denied'],
];
for (const [what, fault, code] of broken)
  for (const region of [null, 'eu-central-1'])
    ec2(`metadata that ${what} for ${region ?? 'the region and'} credentials: ${code}`, async () => {
      const metadata = metadataAt(server.url, TIMEOUT_MS);
      const here = onlyMetadata({ region, metadata, metadataTimeoutMs: TIMEOUT_MS });
      vpc.faults.add({ ...fault, action: METADATA });
      const line = await failureOf(here.assign(ENI_A, ips(20), LATER), code);
      assert.match(line, /^AssignPrivateIpAddresses was not sent: .*; /);
      assert.is(vpc.calls.size, 0);
      vpc.faults.clear();
      await here.assign(ENI_A, ips(20), LATER);
    });

const NEVER = new Promise<Response>(() => {});
const roleAnswers: [what: string, answer: () => Response | Promise<Response>, says: RegExp][] = [
  ['a role without an answer', () => NEVER, /from instance metadata: they came too late; /],
  [
    'a role that EC2 cannot assume',
    () =>
      Response.json({
        Code: 'AssumeRoleUnauthorizedAccess',
        Message: 'EC2 cannot assume the role r.\nPlease see documentation.',
      }),
    /from instance metadata: EC2 cannot assume the role r\. Please see documentation\. \(AssumeRoleUnauthorizedAccess\); /,
  ],
  ['a role without a word', () => Response.json({}), /from instance metadata: they came too late; /],
  ['a role that is null', () => Response.json(null), /: what answers there says nothing of the role; /],
];
for (const [what, answer, says] of roleAnswers)
  ec2(`${what}: the operator reads what the metadata say of it`, async () => {
    const here = onlyMetadata({ region: 'eu-central-1', metadataTimeoutMs: TIMEOUT_MS });
    byHand.answer = request =>
      request.url.endsWith('/security-credentials/simulated-role') ? answer() : null;
    assert.match(await failureOf(here.eni(ENI_A), 'ec2-unreachable'), says);
    byHand.answer = null;
    assert.is((await here.eni(ENI_A)).id, ENI_A);
  });

ec2('credentials of a role that have ended are read anew', async () => {
  const here = onlyMetadata({ region: 'eu-central-1' });
  await here.eni(ENI_A);
  let reads = 0;
  byHand.answer = request => {
    if (request.url.endsWith('/security-credentials/simulated-role')) reads++;
    return null;
  };
  await here.eni(ENI_A);
  assert.is(reads, 0, 'they are kept');
  refuseOnce('ExpiredToken', 'The token has expired.');
  await failureOf(here.eni(ENI_A), 'ec2-unreachable');
  assert.is(reads, 1);
});

for (const [what, path] of [
  ['region', '/placement/region'],
  ['credentials', '/security-credentials/simulated-role'],
])
  ec2(`time that passes while the ${what} are waited for counts`, async () => {
    let now = 0;
    byHand.answer = request => {
      if (request.url.endsWith(path ?? '')) now = 1000;
      return null;
    };
    const slow = onlyMetadata({ deadlineClock: () => now });
    await failureOf(slow.assign(ENI_A, ips(20), 1000), 'ec2-unreachable');
    assert.is(now, 1000, 'the metadata was not asked');
    assert.is(vpc.calls.size, 0);
  });

ec2("the region is the environment's, then the instance's", async () => {
  onlyMetadata();
  const scopes: string[] = [];
  byHand.answer = request => {
    const scope = request.headers.get('authorization')?.match(/Credential=[^/]+\/\d+\/([^/]+)\//)?.[1];
    if (scope !== undefined) scopes.push(scope);
    return null;
  };
  await cloud({ region: null, metadata: metadataAt(server.url) }).eni(ENI_A);
  process.env.AWS_REGION = 'ap-south-1';
  await cloud({ region: null }).eni(ENI_A);
  await cloud({ region: 'sa-east-1' }).eni(ENI_A);
  assert.equal(scopes, ['eu-central-1', 'ap-south-1', 'sa-east-1']);
});

/** The SDK asks the metadata for the region too. After it got none, it does not ask for a minute of this clock. */
const MINUTES_MS = 300_000;
for (const [who, laterMs] of [
  ['the SDK', MINUTES_MS],
  ['this client', 0],
] as const)
  ec2(
    `a page of a proxy that ${who} takes for the region is not kept: the metadata is asked again`,
    async () => {
      const here = onlyMetadata();
      const { now } = Date;
      Date.now = () => now() + laterMs;
      try {
        byHand.answer = request =>
          request.url.endsWith('/placement/region') ? xml('<html>\n<p>Not yet.</p>\n</html>') : null;
        const line = await failureOf(here.eni(ENI_A), 'ec2-unreachable');
        assert.match(line, /^DescribeNetworkInterfaces was not sent: .*region.*<html>/);
        assert.is(vpc.calls.size, 0);
        byHand.answer = null;
        assert.is((await here.eni(ENI_A)).id, ENI_A);
        assert.is(await here.region(), 'eu-central-1');
      } finally {
        Date.now = now;
      }
    },
  );

ec2('a region that is set and empty is not set', async () => {
  onlyMetadata();
  process.env.AWS_REGION = '';
  assert.is((await cloud({ region: null, metadata: metadataAt(server.url) }).eni(ENI_A)).id, ENI_A);
});

ec2('without a region anywhere nothing is sent, and the operator reads what to set', async () => {
  onlyMetadata();
  process.env.AWS_EC2_METADATA_DISABLED = 'true';
  const line = await failureOf(cloud({ region: null }).assign(ENI_A, ips(20), LATER), 'ec2-denied');
  assert.match(line, /no AWS region is known; set AWS_REGION$/);
  assert.is(vpc.calls.size, 0);
});
ec2.run();
