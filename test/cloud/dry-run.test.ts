// Goal: the rights to assign and unassign are asked for without a change, also where an endpoint does not know DryRun.
// Method: the SDK against the simulator on loopback, and against servers that carry out whatever they are sent.
import process from 'node:process';
import { createAskRights, onlyDryRun } from '../../src/cloud/dry-run.ts';
import { createEc2Time } from '../../src/cloud/ec2-time.ts';
import { metadataDisabled } from '../../src/cloud/imds.ts';
import { createEc2Api } from '../../src/simulator/ec2/ec2-api.ts';
import type { Vpc } from '../../src/simulator/model/vpc.ts';
import { ETH1, ip, type Served, serve, simulated } from '../kit/simulated.ts';
import { assert, suite } from '../kit/uvu.ts';
import { ASSIGN } from '../kit/vpcs.ts';

const UNASSIGN = 'UnassignPrivateIpAddresses';
const WHAT = { eni: ETH1, primary: ip('10.0.1.11'), router: ip('10.0.1.1') };
const before = process.env.AWS_ENDPOINT_URL_EC2;

interface Context {
  served: Served | null;
}
const rights = suite<Context>('rights by DryRun');
rights.after.each(context => {
  context.served?.close();
  context.served = null;
  if (before === undefined) delete process.env.AWS_ENDPOINT_URL_EC2;
  else process.env.AWS_ENDPOINT_URL_EC2 = before;
});

async function ask(context: Context, fetch: (request: Request) => Response | Promise<Response>) {
  context.served = await serve({ fetch });
  process.env.AWS_ENDPOINT_URL_EC2 = context.served.url;
  const log = () => {};
  const clock = () => performance.now();
  return await createAskRights({
    region: 'eu-central-1',
    credentials: { accessKeyId: 'AKIA', secretAccessKey: 'secret' },
    metadata: metadataDisabled,
    time: createEc2Time(clock, Date.now, log),
    deadlineClock: clock,
    log,
  })(WHAT);
}
const ofVpc = (vpc: Vpc) => createEc2Api(vpc, {}).fetch as (request: Request) => Promise<Response>;
const newVpc = () => simulated({ now: Date.now, bucketScale: null });
const addresses = (vpc: Vpc) => vpc.network.eni(ETH1).secondaries;

const cases: [denied: string[], unassign: string, assign: string | undefined, asked: number][] = [
  [[], 'allowed', 'allowed', 1],
  [[ASSIGN], 'allowed', 'denied', 1],
  [[UNASSIGN], 'denied', undefined, 0],
  [[ASSIGN, UNASSIGN], 'denied', undefined, 0],
];
for (const [denied, unassign, assign, asked] of cases)
  rights(
    `with ${denied.join(' and ') || 'nothing'} denied: EC2 says so, and nothing changes`,
    async context => {
      const vpc = newVpc();
      for (const action of denied) vpc.denied.add(action);
      const had = [...addresses(vpc)];
      const found = await ask(context, ofVpc(vpc));
      assert.equal([found.unassign.kind, found.assign?.kind], [unassign, assign]);
      assert.equal(addresses(vpc), had);
      assert.is(vpc.calls.get(ASSIGN) ?? 0, asked);
    },
  );

rights('each call: carries DryRun, and names what would change nothing', async context => {
  const vpc = newVpc();
  const bodies: string[] = [];
  await ask(context, async request => {
    bodies.push(await request.clone().text());
    return await ofVpc(vpc)(request);
  });
  const named = bodies.map(body => {
    const form = new URLSearchParams(body);
    return ['Action', 'PrivateIpAddress.1', 'DryRun'].map(key => form.get(key)).join(' ');
  });
  assert.equal(named, [`${UNASSIGN} 10.0.1.1 true`, `${ASSIGN} 10.0.1.11 true`]);
});

const answers: [what: string, status: number, body: string, kind: string, tells?: string][] = [
  ['that carries it out', 200, `<${UNASSIGN}Response><return>true</return></${UNASSIGN}Response>`, 'ignored'],
  ['that does not know the parameter', 400, errorOf('UnknownParameter'), 'other', 'UnknownParameter'],
  ['that does not know the ENI', 400, errorOf('InvalidNetworkInterfaceID.NotFound'), 'other'],
  ['that lets nobody do anything', 403, errorOf('UnauthorizedOperation'), 'denied'],
];
for (const [what, status, body, kind, tells] of answers)
  rights(`an endpoint ${what}: is never asked to assign`, async context => {
    const actions: (string | null)[] = [];
    const found = await ask(context, async request => {
      actions.push(new URLSearchParams(await request.text()).get('Action'));
      return new Response(body, { status, headers: { date: new Date().toUTCString() } });
    });
    assert.is(found.unassign.kind, kind);
    if (tells !== undefined) assert.equal(found.unassign, { kind, code: tells });
    assert.is(found.assign, null);
    assert.equal(actions, [UNASSIGN]);
  });

function errorOf(code: string): string {
  return `<Response><Errors><Error><Code>${code}</Code><Message>no</Message></Error></Errors></Response>`;
}

rights('a request that would not be a DryRun: is not sent', async () => {
  const bodies = [
    'Action=AssignPrivateIpAddresses',
    'DryRun=false',
    'DryRun=true&DryRun=false',
    'xDryRun=true',
  ];
  for (const body of [...bodies, undefined]) {
    let isSent = false;
    const send = onlyDryRun(async (_: never) => {
      isSent = true;
    });
    const headers = { 'content-length': String(body?.length ?? 0) };
    await send({ request: { body, headers } } as never).then(
      () => assert.unreachable(),
      error => assert.match(String(error), /is no DryRun/),
    );
    assert.not.ok(isSent);
  }
  const short = { request: { body: 'DryRun=true', headers: { 'content-length': '3' } } };
  await onlyDryRun(async (_: never) => assert.unreachable())(short as never).catch(error =>
    assert.match(String(error), /is no DryRun/),
  );
});
rights.run();
