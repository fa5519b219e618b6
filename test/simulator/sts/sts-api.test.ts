// Goal: the simulated STS tells who signed a request, and refuses what is not really signed. Method: requests signed by
// AWS's own library with credentials from the simulated metadata service, and changed ones.
import { createHash, createHmac } from 'node:crypto';
import { SignatureV4 } from '@smithy/signature-v4';
import { type Simulation, simulatorSuite } from '../../kit/servers/simulator.ts';
import { INSTANCE } from '../../kit/simulated.ts';
import { assert } from '../../kit/uvu.ts';

const sts = simulatorSuite('STS of the simulator');
const BODY = 'Action=GetCallerIdentity&Version=2011-06-15';

interface Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken: string;
}

async function roleCredentials({ url }: Simulation, role = 'simulated-role'): Promise<Credentials> {
  const ttl = { 'x-aws-ec2-metadata-token-ttl-seconds': '60' };
  const token = await (await fetch(`${url}/latest/api/token`, { method: 'PUT', headers: ttl })).text();
  const path = `/latest/meta-data/iam/security-credentials/${role}`;
  const answer = await fetch(`${url}${path}`, { headers: { 'x-aws-ec2-metadata-token': token } });
  const { AccessKeyId, SecretAccessKey, Token } = JSON.parse(await answer.text());
  return { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: Token };
}

interface Changes {
  region?: string;
  aheadMs?: number;
  body?: string;
  headers?: Record<string, string>;
}

class Hash {
  readonly #hash;
  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', secret as Uint8Array);
  }
  update(data: string | ArrayBuffer | ArrayBufferView) {
    this.#hash.update(data as Uint8Array);
  }
  async digest() {
    return new Uint8Array(this.#hash.digest());
  }
  reset() {}
}

/** Signs a request with a header of its own, and sends it with the changes. */
async function ask({ url }: Simulation, credentials: Credentials, changes: Changes = {}): Promise<Response> {
  const { host, hostname, port } = new URL(url);
  const { region = 'eu-central-1', aheadMs = 0, body = BODY } = changes;
  const signer = new SignatureV4({ service: 'sts', region, credentials, sha256: Hash });
  const signed = await signer.sign(
    {
      method: 'POST',
      protocol: 'http:',
      hostname,
      port: Number(port),
      path: '/',
      query: {},
      headers: { host, accept: 'application/json', 'x-said': 'what  I say' },
      body: BODY,
    },
    { signingDate: new Date(Date.now() + aheadMs) },
  );
  const { host: _, ...headers } = signed.headers;
  return await fetch(`${url}/`, { method: 'POST', headers: { ...headers, ...changes.headers }, body });
}

async function codeOf(answer: Response): Promise<string> {
  const { Error: error } = (await answer.json()) as { Error?: { Code: string } };
  return `${answer.status} ${error?.Code}`;
}

sts("a request signed with the instance's credentials: tells role and instance", async simulation => {
  const answer = await ask(simulation, await roleCredentials(simulation));
  const { GetCallerIdentityResponse: told } = (await answer.json()) as {
    GetCallerIdentityResponse: { GetCallerIdentityResult: Record<string, string> };
  };
  assert.is(
    told.GetCallerIdentityResult.Arn,
    `arn:aws:sts::123456789012:assumed-role/simulated-role/${INSTANCE}`,
  );
  assert.is(told.GetCallerIdentityResult.Account, '123456789012');
});

const MISMATCH = '403 SignatureDoesNotMatch';
const refused: [what: string, changes: Changes, code: string][] = [
  ['another body', { body: `${BODY}&X=1` }, MISMATCH],
  ['a changed header', { headers: { 'x-said': 'what you say' } }, MISMATCH],
  ['another Region', { region: 'eu-west-1' }, MISMATCH],
  ['16 minutes old', { aheadMs: -16 * 60_000 }, MISMATCH],
  ['6 minutes ahead', { aheadMs: 6 * 60_000 }, MISMATCH],
  ['another token', { headers: { 'x-amz-security-token': 'x' } }, '403 InvalidClientTokenId'],
];
for (const [what, changes, code] of refused)
  sts(`a signed request, ${what}: is refused`, async simulation => {
    const answer = await ask(simulation, await roleCredentials(simulation), changes);
    assert.is(await codeOf(answer), code);
  });

sts('another secret: is refused; so is a key that nobody was given', async simulation => {
  const credentials = await roleCredentials(simulation);
  const wrong = await ask(simulation, { ...credentials, secretAccessKey: 'simulated' });
  assert.is(await codeOf(wrong), MISMATCH);
  const unknown = await ask(simulation, { ...credentials, accessKeyId: 'ASIAUNKNOWNUNKNOWN00' });
  assert.is(await codeOf(unknown), '403 InvalidClientTokenId');
});

sts('a role that somebody assumed: has the session name that they chose', async simulation => {
  const made = await simulation.json<Credentials & { token: string }>('POST', '/sessions', {
    role: 'other',
    name: 'i-0dead',
    account: '210987654321',
  });
  const answer = await ask(simulation, { ...made, sessionToken: made.token });
  assert.match(await answer.text(), 'arn:aws:sts::210987654321:assumed-role/other/i-0dead');
});

sts('an instance: has the role of its description, and EC2 shows its profile', async ({ json, ec2, url }) => {
  await json('POST', '/instances', { id: 'i-0b', role: 'host', profile: 'host-profile' });
  await json('POST', '/instances', { id: 'i-0c', role: null });
  const { Reservations = [] } = await ec2.describeInstances({ InstanceIds: ['i-0b', 'i-0c', INSTANCE] });
  assert.equal(
    Reservations.map(one => one.Instances?.[0]?.IamInstanceProfile?.Arn ?? null),
    [
      'arn:aws:iam::123456789012:instance-profile/host-profile',
      null,
      'arn:aws:iam::123456789012:instance-profile/simulated-role',
    ],
  );
  assert.is((await fetch(`${url}/`, { method: 'POST' })).status, 403, 'EC2 answers what is not for STS');
});
sts.run();
