// Goal: a host gets a certificate for the instance that it is, and nobody else gets one. Method: the real proof, sent to
// the simulated STS and EC2, and attacks on it; what is refused changes nothing.
import { createHash, generateKeyPairSync, X509Certificate } from 'node:crypto';
import {
  callerIdentity,
  type RoleCredentials,
  type Statement,
  signStatement,
  stsEndpoint,
} from '../../src/cloud/caller-identity.ts';
import { createMemoryClient } from '../../src/cloud/memory.ts';
import { identityIn } from '../../src/domain/certificate.ts';
import type { InstanceId } from '../../src/domain/ids.ts';
import type { Vpc } from '../../src/simulator/model/vpc.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { createMemoryStore } from '../../src/store/memory.ts';
import { type Authority, openAuthority } from '../../src/trust/authority.ts';
import { createEnrolment, type Enrolment, type Proof } from '../../src/trust/enrolment.ts';
import { NONCE_LIFE_MS } from '../../src/trust/nonce.ts';
import { failureOf } from '../kit/failures.ts';
import { INSTANCE, ip, type Served, SUBNET, serve, simulated } from '../kit/simulated.ts';
import { assert, suite } from '../kit/uvu.ts';

const REGION = 'eu-central-1';
const SERVER = 'ipam.example.com';
const ADDRESS = '10.0.1.10';
const ROLE = { account: '123456789012', role: 'simulated-role', profile: 'simulated-role' };

interface World {
  readonly vpc: Vpc;
  readonly served: Served;
  readonly endpoint: URL;
  readonly store: ReturnType<typeof createMemoryStore>;
  readonly authority: Authority;
  readonly enrolment: Enrolment;
  /** How far the server's time of day is ahead. */
  readonly clock: { aheadMs: number };
}

async function open(): Promise<World> {
  const vpc = simulated();
  const served = await serve(createSimulator(vpc, { instance: INSTANCE }));
  const endpoint = stsEndpoint(REGION, served.url);
  const store = createMemoryStore();
  const clock = { aheadMs: 0 };
  const authority = await openAuthority(store, 'a passphrase', Date.now());
  const ec2 = createMemoryClient(vpc, { wait: async () => {}, deadlineClock: () => 0 });
  const enrolment = createEnrolment({
    authority,
    store,
    roles: [ROLE, { account: ROLE.account, role: 'batch', profile: 'batch-hosts' }],
    describe: id => ec2.instance(id),
    whoSigned: (statement, signed) => callerIdentity(statement, signed, { region: REGION, endpoint }),
    isOurName: name => name === SERVER,
    timeOfDay: () => Date.now() + clock.aheadMs,
    newToken: () => Math.random().toString(36),
    log: () => {},
  });
  return { vpc, served, endpoint, store, authority, enrolment, clock };
}

const newKey = (): Buffer =>
  generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'der' },
    privateKeyEncoding: { type: 'pkcs8', format: 'der' },
  }).publicKey;
const hashOf = (key: Buffer): string => createHash('sha256').update(key).digest('hex');

function credentialsOf(
  { vpc }: World,
  name: string = INSTANCE,
  role = ROLE.role,
  account?: string,
): RoleCredentials {
  const { accessKeyId, secretAccessKey, token } = vpc.sessions.assume(role, name, account);
  return { accessKeyId, secretAccessKey, sessionToken: token };
}

const addInstance = ({ vpc }: World, id: string, role: string, profile = role) =>
  vpc.network.addInstance({ id: id as InstanceId, type: 'm5.large', zone: 'eu-central-1a', role, profile });

interface Made {
  key?: Buffer;
  stated?: Partial<Statement>;
  credentials?: RoleCredentials;
  region?: string;
  signedAt?: number;
  nonce?: string;
}

/** The proof of a host, or one that somebody has made in another way. */
async function proofOf(world: World, made: Made = {}): Promise<Proof> {
  const { key = newKey(), credentials = credentialsOf(world), region = REGION, signedAt = Date.now() } = made;
  const statement = {
    server: SERVER,
    nonce: made.nonce ?? world.enrolment.nonce(),
    keyHash: hashOf(key),
    ...made.stated,
  };
  const at = { region, endpoint: world.endpoint, now: signedAt };
  const signed = await signStatement(statement, credentials, at);
  return { server: statement.server, nonce: statement.nonce, publicKey: key.toString('base64'), signed };
}

const enrolment = suite<World>('enrolment');
enrolment.before.each(async world => void Object.assign(world, await open()));
enrolment.after.each(({ served }) => served.close());

enrolment('a host: gets a certificate for its instance and its key, for 24 hours', async world => {
  const key = newKey();
  const { instance, certificate, expiresAt } = await world.enrolment.enrol(
    await proofOf(world, { key }),
    ADDRESS,
  );
  const shown = new X509Certificate(certificate);
  assert.is(instance, INSTANCE);
  assert.is(identityIn(shown.raw).instance, INSTANCE);
  assert.equal(shown.publicKey.export({ format: 'der', type: 'spki' }), key);
  assert.ok(shown.verify(new X509Certificate(world.authority.certificate).publicKey));
  const { rows } = await world.store.hosts();
  assert.equal(
    rows.map(host => [host.instance, host.expiresAt]),
    [[INSTANCE, expiresAt]],
  );
  const leftMs = expiresAt - Date.now();
  assert.ok(leftMs > 23 * 3_600_000 && leftMs <= 24 * 3_600_000, `${leftMs}`);
});

enrolment('a role with a profile of another name: is named with it', async world => {
  const { network } = world.vpc;
  addInstance(world, 'i-0b', 'batch', 'batch-hosts');
  const { id } = network.createEni({ subnet: SUBNET, primary: ip('10.0.1.77') });
  network.attach(id, 'i-0b' as InstanceId, 0);
  const proof = await proofOf(world, { credentials: credentialsOf(world, 'i-0b', 'batch') });
  assert.is((await world.enrolment.enrol(proof, '10.0.1.77')).instance, 'i-0b');
});

type Attack = (world: World) => Promise<[Proof, string]>;
const at = async (proof: Promise<Proof>, address = ADDRESS): Promise<[Proof, string]> => [
  await proof,
  address,
];
const swapped = async (world: World, change: (proof: Proof) => Partial<Proof>): Promise<[Proof, string]> => {
  const proof = await proofOf(world);
  return [{ ...proof, ...change(proof) }, ADDRESS];
};
const LATE_MS = 16 * 60_000;
const attacks: [what: string, attack: Attack, says: RegExp][] = [
  [
    'a wrong role',
    world => at(proofOf(world, { credentials: credentialsOf(world, INSTANCE, 'other-role') })),
    /signed by arn:aws:sts::123456789012:assumed-role\/other-role\/i-\w+; no --enroll-role names its role/,
  ],
  [
    'the same role of another account',
    world => at(proofOf(world, { credentials: credentialsOf(world, INSTANCE, ROLE.role, '210987654321') })),
    /signed by arn:aws:sts::210987654321:.*no --enroll-role names its role/,
  ],
  [
    'a session of somebody who may assume the role',
    world => at(proofOf(world, { credentials: credentialsOf(world, 'mallory') })),
    /the session mallory of the role simulated-role is not that of an instance/,
  ],
  [
    'the session of an instance without the profile',
    async world => {
      addInstance(world, 'i-0c', 'other');
      return at(proofOf(world, { credentials: credentialsOf(world, 'i-0c') }));
    },
    /i-0c has arn:aws:iam::123456789012:instance-profile\/other, and not that of the role/,
  ],
  [
    'the session of an instance that does not exist',
    world => at(proofOf(world, { credentials: credentialsOf(world, 'i-0ddd') })),
    /EC2 shows no instance i-0ddd/,
  ],
  [
    'an instance that does not run',
    world => {
      world.vpc.network.setInstanceState(INSTANCE, 'stopped');
      return at(proofOf(world));
    },
    /does not run/,
  ],
  [
    "a container's address",
    world => at(proofOf(world), '10.0.1.20'),
    /came from 10\.0\.1\.20, and the primary address of i-\w+ is 10\.0\.1\.10/,
  ],
  [
    "the primary address of the instance's other ENI",
    world => at(proofOf(world), '10.0.1.11'),
    /came from 10\.0\.1\.11/,
  ],
  [
    "another server's name",
    world => at(proofOf(world, { stated: { server: 'evil.example.com' } })),
    /the proof is for the server evil\.example\.com/,
  ],
  [
    "another server's proof under this server's name",
    async world => {
      const proof = await proofOf(world, { stated: { server: 'evil.example.com' } });
      return [{ ...proof, server: SERVER }, ADDRESS];
    },
    /STS refuses the proof: SignatureDoesNotMatch/,
  ],
  [
    'another key',
    world => swapped(world, () => ({ publicKey: newKey().toString('base64') })),
    /STS refuses the proof: SignatureDoesNotMatch/,
  ],
  [
    'a key of another kind',
    world => swapped(world, () => ({ publicKey: Buffer.alloc(91, 1).toString('base64') })),
    /the public key is not one of P-256/,
  ],
  [
    'a key that is no point of the curve',
    world => {
      const key = newKey();
      key.fill(1, key.length - 64);
      return at(proofOf(world, { key }));
    },
    /the public key is not one of P-256/,
  ],
  [
    'a nonce of another one',
    world => swapped(world, () => ({ nonce: world.enrolment.nonce() })),
    /STS refuses the proof: SignatureDoesNotMatch/,
  ],
  [
    'an invented nonce',
    world => at(proofOf(world, { nonce: 'A'.repeat(56) })),
    /the nonce is not one of these servers/,
  ],
  [
    'an old request',
    async world => {
      const proof = await proofOf(world);
      world.clock.aheadMs = NONCE_LIFE_MS + 1;
      return [proof, ADDRESS];
    },
    /the nonce has expired/,
  ],
  [
    'an old signature over a new nonce',
    world => at(proofOf(world, { signedAt: Date.now() - LATE_MS })),
    /STS refuses the proof: SignatureDoesNotMatch/,
  ],
  [
    'a signature for another Region',
    world => at(proofOf(world, { region: 'eu-west-1' })),
    /the proof is signed for the Region eu-west-1; this server asks STS of eu-central-1/,
  ],
  [
    'a signature that leaves the key out',
    world =>
      swapped(world, ({ signed }) => ({
        signed: { ...signed, authorization: signed.authorization.replace('x-ec2-ipam-key;', '') },
      })),
    /not a signature over what it must state/,
  ],
  [
    'a header that goes on',
    world =>
      swapped(world, ({ signed }) => ({
        signed: { ...signed, date: `${signed.date}\r\nhost: evil.example.com` },
      })),
    /not a signature over what it must state/,
  ],
];
for (const [what, attack, says] of attacks)
  enrolment(`${what}: is refused, and changes nothing`, async world => {
    const before = JSON.stringify(await world.store.fact('authority'));
    const [proof, address] = await attack(world);
    assert.match(await failureOf(world.enrolment.enrol(proof, address), 'denied'), says);
    assert.equal((await world.store.hosts()).rows, []);
    assert.is(JSON.stringify(await world.store.fact('authority')), before);
  });

enrolment('a replayed nonce: is refused, also with a proof of its own', async world => {
  const first = await proofOf(world);
  await world.enrolment.enrol(first, ADDRESS);
  const before = await world.store.hosts();
  for (const proof of [first, await proofOf(world, { nonce: first.nonce })])
    assert.match(
      await failureOf(world.enrolment.enrol(proof, ADDRESS), 'denied'),
      /the nonce was used before/,
    );
  assert.equal((await world.store.hosts()).rows, before.rows);
});

enrolment('a revoked host: is refused until it is allowed', async world => {
  await world.store.revokeHost(INSTANCE);
  const before = (await world.store.hosts()).rows;
  const refused = await failureOf(world.enrolment.enrol(await proofOf(world), ADDRESS), 'denied');
  assert.match(refused, /i-\w+ is revoked; ec2-ipam hosts allow i-\w+ ends that/);
  assert.equal((await world.store.hosts()).rows, before);
  await world.store.allowHost(INSTANCE);
  await world.enrolment.enrol(await proofOf(world), ADDRESS);
});

enrolment('STS that does not answer: is not taken for a refusal, and the nonce is spent', async world => {
  const proof = await proofOf(world);
  world.served.close();
  assert.match(await failureOf(world.enrolment.enrol(proof, ADDRESS), 'unavailable'), /STS can't be reached/);
});

const endpoints: [region: string, override: string | undefined, url: string][] = [
  ['eu-central-1', undefined, 'https://sts.eu-central-1.amazonaws.com/'],
  ['us-gov-west-1', '', 'https://sts.us-gov-west-1.amazonaws.com/'],
  ['cn-north-1', undefined, 'https://sts.cn-north-1.amazonaws.com.cn/'],
  ['eu-central-1', 'http://127.0.0.1:8032', 'http://127.0.0.1:8032/'],
];
for (const [region, override, url] of endpoints)
  enrolment(`STS of ${region}${override ? ' by the environment' : ''}: is at ${url}`, () => {
    assert.is(stsEndpoint(region, override).href, url);
  });
enrolment('a Region that is none: is no part of an address', async () => {
  for (const region of ['evil.example.com/', '', 'eu-central-1.evil.com', 'eu central-1'])
    assert.throws(() => stsEndpoint(region, undefined), /is not an AWS Region/);
});
enrolment.run();
