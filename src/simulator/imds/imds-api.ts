/** The instance metadata service, version 2 (IMDSv2), of one instance of the simulated VPC. */
import { type Context, Hono } from 'hono';
import { formatCidr } from '../../domain/address.ts';
import type { InstanceId } from '../../domain/ids.ts';
import { dnsName } from '../ec2/ec2-xml.ts';
import { type ConnectionEnv, drop, hang, sleep } from '../http.ts';
import { METADATA } from '../model/faults.ts';
import { ACCOUNT_ID, type Eni, type Instance, ipv4sOf } from '../model/records.ts';
import type { Vpc } from '../model/vpc.ts';

export interface ImdsOptions {
  /** The instance whose metadata is served. */
  readonly instance: InstanceId;
  /** The time of day, in milliseconds since 1970; absent: the machine's. */
  readonly wallClock?: () => number;
  /** Resolves after so many milliseconds; absent: a timer. */
  readonly wait?: (ms: number) => Promise<void>;
}

const CREDENTIALS_MS = 6 * 3_600_000;
const TOKEN_TTL_S_MAX = 21_600;
const TOKENS_MAX = 1000;

/** The text of a metadata item, or the items of a category. */
type Entry = string | { readonly [name: string]: Entry };

/** `/latest/*`. Version 2 is required: a PUT returns a token, and each GET must carry one.
 *  https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html */
export function createImdsApi(vpc: Vpc, options: ImdsOptions): Hono<ConnectionEnv> {
  const { wait = sleep } = options;
  const tokens = new Map<string, number>();
  const app = new Hono<ConnectionEnv>();

  app.use('/latest/*', async (c, next) => {
    const { latencyMs, fault } = vpc.faults.strike(METADATA, null);
    if (latencyMs > 0) await wait(latencyMs);
    if (fault?.kind === 'hang' || fault?.kind === 'applyLate') return hang(c);
    if (fault?.kind === 'lostReply') return drop(c);
    if (fault?.kind === 'throttle') return page(c, 429, 'Too Many Requests');
    if (fault?.kind === 'error') return c.text(fault.message, Number(fault.code) as 500);
    return await next();
  });

  app.put('/latest/api/token', c => {
    const header = c.req.header('x-aws-ec2-metadata-token-ttl-seconds') ?? '';
    const ttl = /^\d{1,5}$/.test(header) ? Number(header) : 0;
    if (c.req.header('x-forwarded-for') !== undefined) return page(c, 403, 'Forbidden');
    if (ttl < 1 || ttl > TOKEN_TTL_S_MAX) return page(c, 400, 'Bad Request');
    const token = newToken(vpc.random);
    tokens.set(token, vpc.now() + ttl * 1000);
    for (const oldest of tokens.keys()) if (tokens.size > TOKENS_MAX) tokens.delete(oldest);
    return c.text(token, 200, { 'x-aws-ec2-metadata-token-ttl-seconds': String(ttl) });
  });
  app.all('/latest/api/token', c => page(c, 405, 'Method Not Allowed'));

  app.get('/latest/*', c => {
    const until = tokens.get(c.req.header('x-aws-ec2-metadata-token') ?? '');
    if (until === undefined || until <= vpc.now()) return page(c, 401, 'Unauthorized');
    const entry = entryAt(treeOf(vpc, options), c.req.path.slice('/latest/'.length));
    return entry === null ? page(c, 404, 'Not Found') : c.text(entry);
  });
  return app;
}

const page = (c: Context, status: 400 | 401 | 403 | 404 | 405 | 429, title: string): Response =>
  c.html(`<!DOCTYPE html><html><head><title>${status} - ${title}</title></head></html>`, status);

/** Returns the text of an item, or the names of a category, one a line and those of categories with a slash at the end;
 *  null when there is none. */
function entryAt(root: Entry, path: string): string | null {
  let entry: Entry = root;
  const names = path.split('/');
  if (names.at(-1) === '') names.pop();
  for (const name of names) {
    if (typeof entry === 'string' || !Object.hasOwn(entry, name)) return null;
    entry = entry[name] ?? '';
  }
  if (typeof entry === 'string') return path.endsWith('/') ? null : entry;
  return Object.entries(entry)
    .map(([name, member]) => (typeof member === 'string' ? name : `${name}/`))
    .join('\n');
}

function treeOf(vpc: Vpc, { instance: id, wallClock = Date.now }: ImdsOptions): Entry {
  const { network, region } = vpc;
  const instance = network.instance(id);
  const enis = network.enisOf(id);
  const first = enis[0];
  const hostname = first?.primary == null ? '' : dnsName(first.primary, region);
  return {
    dynamic: {
      'instance-identity': {
        document: JSON.stringify(
          {
            accountId: ACCOUNT_ID,
            architecture: 'x86_64',
            availabilityZone: instance.zone,
            imageId: 'ami-0a1b2c3d4e5f60001',
            instanceId: id,
            instanceType: instance.type,
            privateIp: first?.primary ?? null,
            region,
            version: '2017-09-30',
          },
          null,
          2,
        ),
      },
    },
    'meta-data': {
      hostname,
      ...(instance.role !== null && {
        iam: { 'security-credentials': { [instance.role]: credentials(vpc, instance, wallClock()) } },
      }),
      'instance-id': id,
      'instance-type': instance.type,
      'local-hostname': hostname,
      'local-ipv4': first?.primary ?? '',
      mac: first?.mac ?? '',
      network: { interfaces: { macs: Object.fromEntries(enis.map(eni => [eni.mac, eniEntry(vpc, eni)])) } },
      placement: { 'availability-zone': instance.zone, region },
    },
  };
}

const eniEntry = ({ network, region }: Vpc, eni: Eni): Entry => ({
  'device-number': String(eni.attachment?.deviceIndex ?? 0),
  'interface-id': eni.id,
  mac: eni.mac,
  'owner-id': eni.owner,
  'subnet-id': eni.subnet,
  'vpc-id': eni.vpc,
  ...(eni.primary !== null && {
    'local-hostname': dnsName(eni.primary, region),
    'local-ipv4s': ipv4sOf(eni).join('\n'),
  }),
  // An EFA-only ENI has no IPv4 address, but its subnet has an IPv4 CIDR.
  ...((eni.primary !== null || eni.interfaceType === 'efa-only') && {
    'subnet-ipv4-cidr-block': formatCidr(network.subnet(eni.subnet).cidr),
  }),
});

const isoTime = (ms: number): string => new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');

/** Keys that only the simulator accepts. */
function credentials({ sessions }: Vpc, { role, id }: Instance, now: number): string {
  const { accessKeyId, secretAccessKey, token } = sessions.assume(role ?? '', id);
  return JSON.stringify(
    {
      Code: 'Success',
      LastUpdated: isoTime(now),
      Type: 'AWS-HMAC',
      AccessKeyId: accessKeyId,
      SecretAccessKey: secretAccessKey,
      Token: token,
      Expiration: isoTime(now + CREDENTIALS_MS),
    },
    null,
    2,
  );
}

const TOKEN_ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const newToken = (random: () => number): string =>
  `${Array.from({ length: 54 }, () => TOKEN_ALPHABET[Math.floor(random() * 64)]).join('')}==`;
