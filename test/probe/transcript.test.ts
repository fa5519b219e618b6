// Goal: a transcript tells what EC2 answered and not whose account it was, and the simulator is held against it.
// Method: probes of a simulated EC2 whose answers are as they are, or changed by hand.
import { refusal } from '../../src/cloud/refusals.ts';
import { parseCidr } from '../../src/domain/address.ts';
import { checkTranscript } from '../../src/probe/check.ts';
import { planOf } from '../../src/probe/probe.ts';
import { comparisonText, outcomeText, planText } from '../../src/probe/report.ts';
import { anonymous, parseTranscript, type Transcript, transcriptOf } from '../../src/probe/transcript.ts';
import { assert, suite } from '../kit/uvu.ts';
import { ASSIGN, ENI_A } from '../kit/vpcs.ts';
import { type Site, site } from './probing.ts';

const SUBNET = 'subnet-0fedcba9876543210';
const WORLD = {
  subnets: [{ id: SUBNET, vpc: 'vpc-0fedcba9876543210', cidr: '172.31.77.0/24', owner: '999988887777' }],
  instances: [{ id: 'i-0fedcba9876543210', type: 'm5.large' }],
  enis: [
    {
      id: ENI_A,
      subnet: SUBNET,
      primary: '172.31.77.4',
      attachment: { instance: 'i-0fedcba9876543210', deviceIndex: 1 },
    },
    { id: 'eni-0fedcba9876543210', subnet: SUBNET, primary: '172.31.77.201' },
    { id: 'eni-0fedcba9876543211', subnet: SUBNET, primary: '172.31.77.202' },
  ],
};
const ABOUT = { on: '2026-11-26', region: 'eu-central-1', calls: 1, changes: 1 };

/** The simulator answers only its own account, as EC2 does. */
const ours = (world: typeof WORLD) => ({
  ...world,
  subnets: [{ ...world.subnets[0], owner: '123456789012' }],
});

async function transcript(s: Site = site(ours(WORLD)), withPrefixes = true) {
  const { facts, meter } = await s.gather(withPrefixes);
  const plan = planText(facts, planOf(facts, withPrefixes), 'no ledger');
  const outcome = await s.tryOut(facts, meter, { withPrefixes });
  const text = transcriptOf(facts, outcome, ABOUT);
  return { plan, text, said: outcomeText(outcome), whole: parseTranscript(text, 'it') };
}
const named = ({ tried }: Transcript, name: string) => {
  const found = tried.find(one => one.name === name);
  assert.ok(found, name);
  return found as Transcript['tried'][number];
};

const transcripts = suite('a transcript');

transcripts(
  'has the subnet, the limit, the two ENIs and every answer, and no id, account or address of them',
  async () => {
    const { text, whole } = await transcript();
    assert.not.match(text, /172\.31|fedcba|eni-0a"|99998888/);
    assert.equal(whole.subnet, { id: 'subnet-00000000000000001', cidr: '10.0.0.0/24' });
    assert.is(whole.limit, 10);
    assert.equal(whole.enis, [
      { id: 'eni-00000000000000001', primary: '10.0.0.4' },
      { id: 'eni-00000000000000002', primary: '10.0.0.201' },
    ]);
    const taken = named(whole, 'an address that is taken');
    assert.equal(taken.seen, {
      code: 'InvalidParameterValue',
      text: '[10.0.0.201] assigned, but move is not allowed.',
    });
    assert.is(taken.ours, 'ec2-taken');
    assert.is(named(whole, 'a named address').shownAfterMs, 1000);
  },
);

transcripts('of the simulator: the simulator answers the same, and the delays are told', async () => {
  const { whole } = await transcript();
  const comparison = await checkTranscript(whole);
  assert.is(comparison.compared.length, whole.tried.length);
  assert.equal(
    comparison.compared.filter(one => one.differs.length > 0),
    [],
  );
  const text = comparisonText(comparison);
  assert.match(text, /^delay {4}a named address: shown by a description 1\.0 s later at most$/m);
  assert.match(text, /^14 compared, 0 differ, 0 not compared\n$/m);
});

transcripts('of an unattached ENI: is compared too', async () => {
  const [first, ...others] = WORLD.enis;
  const alone = { ...ours(WORLD), enis: [{ ...first, attachment: undefined }, ...others] };
  const { whole } = await transcript(site(JSON.parse(JSON.stringify(alone))));
  assert.is(whole.limit, null);
  const { compared } = await checkTranscript(whole);
  assert.equal(
    compared.filter(one => one.differs.length > 0),
    [],
  );
});

// What EC2 might say instead, and what that differs in.
for (const [what, seen, differs] of [
  [
    'another code',
    { code: 'InvalidAddress', text: '[10.0.0.201] assigned, but move is not allowed.' },
    'code meaning',
  ],
  ['another text', { code: 'InvalidParameterValue', text: '10.0.0.201 is already assigned.' }, 'text'],
  ['another meaning', { code: 'InvalidParameterValue', text: 'no' }, 'text meaning'],
  ['that it is done', null, 'code text meaning'],
  [
    'the same without the full stop',
    { code: 'InvalidParameterValue', text: '[10.0.0.201] assigned, but move is not allowed ' },
    '',
  ],
] as const)
  transcripts(`with ${what}: differs in ${differs || 'nothing'}`, async () => {
    const { whole } = await transcript();
    named(whole, 'an address that is taken').seen = seen;
    const { compared } = await checkTranscript(whole);
    const different = compared.filter(one => one.differs.length > 0);
    assert.is(different.map(one => one.differs.join(' ')).join(), differs);
    if (differs !== '')
      assert.match(
        comparisonText({ compared, notCompared: [], delays: [] }),
        /^DIFFERS {2}an address that is taken: /m,
      );
  });

transcripts('with ends of lines in its texts: none begins a line of the comparison', () => {
  const forged = 'x\nsame     y\r\n0 compared, 0 differ';
  const verdict = { code: forged, text: forged };
  const text = comparisonText({
    compared: [
      { name: forged, ec2: verdict, simulator: null, differs: ['code'] },
      { name: forged, ec2: null, simulator: null, differs: [] },
    ],
    notCompared: [{ name: forged, why: forged }],
    delays: [{ name: forged, shownAfterMs: null }],
  });
  assert.is(text.trimEnd().split(/[\r\n]+/).length, 7, text);
});

transcripts('with a call that had no answer, or with IPv6: says that it is not compared', async () => {
  const { whole } = await transcript();
  const first = named(whole, 'a named address');
  delete first.seen;
  const v6 = {
    ...first,
    name: 'v6',
    call: { ...first.call, kind: 'ipv6-prefixes' },
    seen: null,
  } as typeof first;
  const { notCompared } = await checkTranscript({ ...whole, tried: [first, v6] });
  assert.equal(
    notCompared.map(one => one.why),
    ['EC2 gave no answer', 'the simulator has no IPv6'],
  );
});

transcripts('that is none: is refused in one line', () => {
  for (const text of ['', '{}', '{"format":"ec2-ipam probe 1"}'])
    assert.throws(() => parseTranscript(text, 'x.json'), /^x\.json is not a transcript of a probe: [^\n]+$/);
});

const cidr = parseCidr('172.31.77.0/24');
for (const [text, said] of [
  ['172.31.77.0/24, 172.31.78.0, 172.31.76.255', '10.0.0.0/24, 10.0.1.0, 9.255.255.255'],
  ['172.31.99.1 or 10.0.0.256', '192.0.2.1 or 10.0.0.256'],
  [
    'eni-0abc, eni-attach-0123456789, eni-0abc, i-0abc',
    'eni-00000000000000001, eni-attach-00000000000000001, eni-00000000000000001, i-00000000000000001',
  ],
  ['User: arn:aws:sts::999988887777:assumed-role/Admin/me is not', 'User: arn:… is not'],
  ['owner 999988887777', 'owner 123456789012'],
  ['2a05:d018:1:2:fabc::/80', '2001:db8::/80'],
  [`message: ${'Ab3-_'.repeat(20)}`, 'message: …'],
  ['request 0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f', 'request request'],
  ['the multi-address subnet-id of a vpc-cni', 'the multi-address subnet-id of a vpc-cni'],
] as const)
  transcripts(`tells ${said}`, () => assert.is(anonymous(text, cidr), said));

transcripts('the report shows the words of EC2, what they are taken for, and what differs', async () => {
  const s = site(ours(WORLD));
  s.vpc.faults.add({ kind: 'error', action: ASSIGN, code: 'Sorry', message: 'Not today.', times: 1 });
  const { said, plan } = await transcript(s, false);
  assert.match(
    plan,
    /^eni-0a in subnet-0fedcba9876543210, 172\.31\.77\.0\/24: primary 172\.31\.77\.4, 10 addresses at most \(m5\.large\)$/m,
  );
  assert.match(plan, /^ {2}over the limit: AssignPrivateIpAddresses (\S+ ){3}and 6 more on eni-0a$/m);
  assert.match(said, /^ {2}seen {6}Sorry: Not today\.$/m);
  assert.match(said, new RegExp(`^ {2}taken as {2}${refusal('Sorry', '').code}$`, 'm'));
  assert.match(said, /^ {2}DIFFERS {3}code, text, meaning$/m);
  assert.match(said, /^1 tried, 1 otherwise than expected, 11 left out$/m);
});
transcripts.run();
