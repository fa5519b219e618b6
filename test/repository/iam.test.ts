// Goal: the policies give the rights that the program uses and no others, on the ENIs that it is for. Method: their
// actions are held against the calls in the source; the script that fills them in is run.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../scripts/tiers.ts';
import { execute } from '../kit/docker/netns.ts';
import { assert, suite } from '../kit/uvu.ts';

const FOLDER = join(ROOT, 'scripts/provision/iam');
const ROLES = ['central', 'embedded'] as const;
/** What only `ec2-ipam probe --prefixes` calls, which nobody runs with the role of a host or a server. */
const OF_PROBES = ['ec2:AssignIpv6Addresses', 'ec2:UnassignIpv6Addresses'];
const CHANGES = ['ec2:AssignPrivateIpAddresses', 'ec2:UnassignPrivateIpAddresses'];

interface Statement {
  readonly Effect: string;
  readonly Action: string[];
  readonly Resource: string;
  readonly Condition: Record<string, Record<string, string | string[]>>;
}
const policyIn = (text: string): Statement[] => JSON.parse(text).Statement;
const templateOf = (role: string) => readFileSync(join(FOLDER, `${role}.json`), 'utf8');
const fill = (...args: string[]) => execute(join(FOLDER, 'policy'), args);
const EUROPE = ['--region', 'eu-central-1', '--account', '123456789012'];
const VPC = ['--vpc', 'vpc-0a1'];

/** The actions that the program calls, by its sources. */
function called(): string[] {
  const files = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' });
  const sources = files
    .filter(file => /\.tsx?$/.test(file))
    .map(file => readFileSync(join(ROOT, 'src', file), 'utf8'));
  const names = sources.flatMap(text =>
    [...text.matchAll(/new ([A-Z]\w+)Command\(/g)].map(([, name]) => `ec2:${name}`),
  );
  return [...new Set(names)].sort();
}

const iam = suite('IAM policies');

for (const role of ROLES) {
  iam(`${role}: allows each action that the program calls, and no other`, () => {
    const statements = policyIn(templateOf(role));
    const actions = statements.flatMap(one => one.Action);
    assert.equal([...actions, ...OF_PROBES].sort(), called());
    assert.ok(statements.every(one => one.Effect === 'Allow'));
  });

  iam(`${role}: reads in one Region, and changes ENIs with its tag in one VPC only`, async () => {
    const { code, stdout } = await fill(role, ...EUROPE, ...VPC);
    assert.is(code, 0);
    assert.not.match(stdout, /PARTITION|REGION|ACCOUNT|OWNER|VPC"/);
    const [read, change, ...others] = policyIn(stdout);
    assert.equal(others, []);
    assert.equal(read?.Condition, { StringEquals: { 'ec2:Region': 'eu-central-1' } });
    assert.equal(change?.Action, CHANGES);
    assert.is(change?.Resource, 'arn:aws:ec2:eu-central-1:123456789012:network-interface/*');
    const tag = {
      central: { 'aws:ResourceTag/ec2-ipam': 'yes' },
      // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of IAM
      embedded: { 'aws:ResourceTag/ec2-ipam:instance': '${ec2:SourceInstanceARN}' },
    };
    const vpc = { 'ec2:Vpc': ['arn:aws:ec2:eu-central-1:123456789012:vpc/vpc-0a1'] };
    assert.equal(change?.Condition, { StringEquals: tag[role], ArnEquals: vpc });
  });
}

iam(
  'subnets in place of the VPC, the account that shares them, and other partitions: are filled in',
  async () => {
    const subnets = ['--subnet', 'subnet-0a', '--subnet', 'subnet-0b', '--owner', '210987654321'];
    const { stdout } = await fill(
      'central',
      '--region',
      'cn-north-1',
      '--account',
      '123456789012',
      ...subnets,
    );
    const arn = (id: string) => `arn:aws-cn:ec2:cn-north-1:210987654321:subnet/${id}`;
    const [, change] = policyIn(stdout);
    assert.equal(change?.Condition.ArnEquals, { 'ec2:Subnet': ['subnet-0a', 'subnet-0b'].map(arn) });
    assert.is(change?.Resource, 'arn:aws-cn:ec2:cn-north-1:123456789012:network-interface/*');
    for (const [region, partition] of [
      ['us-gov-west-1', 'aws-us-gov'],
      ['us-iso-east-1', 'aws-iso'],
      ['us-isob-east-1', 'aws-iso-b'],
      ['eusc-de-east-1', 'aws-eusc'],
      ['ap-southeast-2', 'aws'],
    ] as const) {
      const filled = await fill('central', '--region', region, '--account', '123456789012', ...VPC);
      assert.match(filled.stdout, `"arn:${partition}:ec2:${region}:`);
    }
  },
);

iam('wrong arguments: are refused in one line and the usage, with status 2', async () => {
  for (const [args, why] of [
    [[], /^policy: say central or embedded\nusage: policy/],
    [['central', ...EUROPE], /^policy: give --vpc or --subnet\n/],
    [['central', ...EUROPE, ...VPC, '--subnet', 'subnet-0a'], /^policy: give --vpc or --subnet\n/],
    [['central', ...VPC, '--account', '123456789012'], /^policy: --region is missing\n/],
    [['central', ...VPC, '--region', 'eu-central-1'], /^policy: --account is missing\n/],
    [['central', ...EUROPE, '--vpc', 'vpc-0a"'], /^policy: --vpc "vpc-0a"" is not of the form/],
    [['central', ...EUROPE, '--vpc'], /^policy: --vpc needs a value\n/],
    [['central', '--zone', 'x'], /^policy: there is no --zone\n/],
  ] as const) {
    const { code, stdout, stderr } = await fill(...args);
    assert.is(code, 2, args.join(' '));
    assert.is(stdout, '');
    assert.match(stderr, why);
  }
  assert.match((await fill('--help')).stdout, /^usage: policy/);
});
iam.run();
